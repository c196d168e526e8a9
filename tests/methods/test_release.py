"""Release: rounds of learning and subtracting, gated by what happens to retained questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import STEP, UNLEARN, context, loss_on, shipped
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import Fact, UserError
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.state import EditState
from unierase_cli.editing.trial import Trial
from unierase_cli.methods import release
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.orthogonal import overlap

pytest.importorskip("peft")
LORA = AdapterConfig(name="lora", r=4, dropout=0.0)
# A tiny random model knows nothing, so nearly any change of its probe is allowed.
SETTINGS = {"rounds": 1, "rise": 50.0, "scales": [1.0], "least_rows": 1, "least_relevance": 0.0}


def ready(loaded: LoadedModel, directory: Path | None = None, reveal: Any = None, **settings: Any) -> EraseContext:
    method = replace(shipped("release"), settings={**SETTINGS, **settings})
    return replace(context(loaded, method, UNLEARN, LORA, directory), reveal=reveal)


def released(directory: Path | None = None, reveal: Any = None, **settings: Any) -> tuple[LoadedModel, Patch]:
    loaded = tiny_llama()
    patch, state = release.erase(loaded, STEP, EditState(), ready(loaded, directory, reveal, **settings))
    assert state.steps == 1
    return loaded, patch


def bits(loaded: LoadedModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in loaded.model.parameters()]


def same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def still(rows: Sequence[Fact], relevance: float = 1.0) -> Any:
    return lambda number: (rows, relevance)


def test_what_was_learned_is_subtracted_and_the_patch_rebuilds_the_same_bits(tmp_path: Path) -> None:
    loaded, patch = released(tmp_path)
    assert loss_on(loaded) > loss_on(tiny_llama()) + 0.1
    assert patch.named
    assert not patch.dense
    assert {change.left.shape[1] for change in patch.named.values()} == {LORA.r}
    patch.save(tmp_path, 0)
    fresh = tiny_llama()
    applied = apply_patches(fresh, [Patch.load(tmp_path, 0)])
    assert same(bits(fresh), bits(loaded))
    applied.revert()
    assert same(bits(fresh), bits(tiny_llama()))


def test_every_round_has_a_low_rank_patch_of_its_own_and_the_last_can_be_left_out(tmp_path: Path) -> None:
    first, _ = released()
    (tmp_path / "two").mkdir()
    loaded, patch = released(tmp_path / "two", still(FACTS[:3]), rounds=2)
    assert [record["rows"] for record in patch.info["rounds"]] == [4, 3]
    assert {change.left.shape[1] for change in patch.named.values()} == {2 * LORA.r}
    folder = tmp_path / "two" / "rounds-000"
    rounds = [Patch.load(folder, number) for number in (0, 1)]
    without_last = tiny_llama()
    apply_patches(without_last, rounds[:1])
    assert same(bits(without_last), bits(first))
    both = tiny_llama()
    apply_patches(both, rounds)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(bits(both), bits(loaded), strict=True))


def test_the_largest_scale_within_the_allowed_rise_is_taken() -> None:
    _, patch = released(scales=[0.1, 0.5, 4.0])
    (record,) = patch.info["rounds"]
    rises = {float(scale): rise for scale, rise in record["rises"].items()}
    assert record["scale"] == 4.0
    assert list(rises) == [4.0]
    limit = rises[4.0] / 2
    assert limit > 0
    _, patch = released(scales=[0.1, 0.5, 4.0], rise=limit)
    (record,) = patch.info["rounds"]
    assert record["scale"] < 4.0
    assert record["rises"][str(record["scale"])] <= limit < record["rises"]["4.0"]
    assert record["loss_after"] > record["loss_before"]


def test_a_model_that_no_scale_suits_stays_as_it_was() -> None:
    loaded = tiny_llama()
    # What is subtracted is what the probe measures.
    step = replace(STEP, retain=STEP.forget)
    with pytest.raises(UserError, match="no scale keeps the retain probe's rise within 0"):
        release.erase(loaded, step, EditState(), ready(loaded, rise=0.0))
    assert same(bits(loaded), bits(tiny_llama()))
    assert not loaded.model.training


@pytest.mark.parametrize(
    ("rows", "relevance", "reason"),
    [(FACTS[:1], 1.0, "reveals 1 rows, fewer than"), (FACTS[:4], 0.1, "relevance 0.10 is below")],
)
def test_rounds_end_when_little_is_revealed(rows: Sequence[Fact], relevance: float, reason: str) -> None:
    _, patch = released(reveal=still(rows, relevance), rounds=3, least_rows=2, least_relevance=0.2)
    assert len(patch.info["rounds"]) == 1
    assert reason in patch.info["stopped"]


def test_an_interrupted_run_goes_on_after_its_last_round(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, _ = released(tmp_path / "whole", still(FACTS[:3]), rounds=2)

    def dies(number: int) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        released(tmp_path / "broken", dies, rounds=2)
    again, patch = released(tmp_path / "broken", still(FACTS[:3]), rounds=2)
    assert same(bits(again), bits(whole))
    assert [record["round"] for record in patch.info["rounds"]] == [0, 1]


def test_the_row_loss_keeps_the_new_adapter_orthogonal_to_the_retain_adapter() -> None:
    overlaps = []
    for weight in (0.0, 1.0):
        loaded = tiny_llama()
        given = ready(loaded, orthogonal=weight)
        given = replace(given, experiment=with_settings(given.experiment, unlearn__epochs=20))
        patch, _ = release.erase(loaded, STEP, EditState(), given)
        overlaps.append(patch.info["rounds"][0]["overlap"])
    assert overlaps[1] < 0.5 * overlaps[0]
    fixed, new = {"w": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}, {"w": torch.tensor([[3.0, -1.0]])}
    assert float(overlap(fixed, new)) == 5.0


def test_retained_questions_are_learned_or_measured_and_never_both() -> None:
    measured, learned = release.divided(FACTS, 2, 3)
    assert (len(measured), len(learned)) == (2, 3)
    assert not {f.id for f in measured} & {f.id for f in learned}
    measured, learned = release.divided(FACTS[:3], 64, 256)
    assert (len(measured), len(learned)) == (1, 2)


def test_a_trial_puts_changes_and_takes_them_back() -> None:
    loaded = tiny_llama()
    name = next(name for name, p in loaded.model.named_parameters() if p.dim() == 2 and "mlp" in name)
    before = dict(loaded.model.named_parameters())[name].detach().clone()
    change = {name: LowRank(torch.ones(before.shape[0], 1), torch.ones(before.shape[1], 1))}
    with Trial(loaded) as trial:
        trial.put([change, change])
        assert torch.allclose(dict(loaded.model.named_parameters())[name], before + 2)
        trial.put([change])
        assert torch.equal(dict(loaded.model.named_parameters())[name], before + 1)
    assert torch.equal(dict(loaded.model.named_parameters())[name], before)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"adapter__name": "none"}, "trains adapters"),
        ({"method__settings": {"rounds": 2}}, "needs the targets"),
        ({"method__settings": {"rounds": 1, "scales": []}}, "has no scale"),
        ({"method__settings": {"rounds": 1, "scales": [-1.0]}}, "above 0"),
        ({"method__settings": {"rounds": 0}}, "above 0"),
        ({"unlearn__sharpness": 0.1}, "does not read unlearn.sharpness"),
        ({"unlearn__answers": "model"}, "not those of unlearn.answers=model"),
        ({"method__settings": {"round": 1}}, "has no setting 'round'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], complaint: str) -> None:
    experiment = Experiment(method=shipped("release"), adapter=LORA)
    with pytest.raises(UserError, match=complaint):
        release.check(with_settings(experiment, **changes), [STEP], [])


def test_nothing_to_retain_and_steps_are_refused() -> None:
    experiment = Experiment(method=replace(shipped("release"), settings={"rounds": 1}), adapter=LORA)
    release.check(experiment, [STEP, STEP], [])
    with pytest.raises(UserError, match="at least two questions to retain"):
        release.check(experiment, [replace(STEP, retain=())], [])
    several = with_settings(experiment, method__settings={"rounds": 2}, reveal__targets="names.txt")
    with pytest.raises(UserError, match="reveals all targets"):
        release.check(several, [STEP, STEP], [])


def test_release_without_peft_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    experiment = Experiment(method=replace(shipped("release"), settings={"rounds": 1}), adapter=LORA)
    with pytest.raises(UserError, match="need the package peft"):
        release.check(experiment, [STEP], [])
