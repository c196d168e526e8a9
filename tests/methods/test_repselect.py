"""RepSelect against the reference's numbers, its filter and its budget."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import golden_depth
from tests.helpers.gradient_steps import STEP, UNLEARN, erased, loss_on, shipped
from tests.helpers.tiny_models import tiny, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.budget import longest_step
from unierase_cli.editing.collapse import collapse
from unierase_cli.methods import repselect
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.unlearning.depth import Divergence
from unierase_cli.training.unlearning.rows import RowBatch, make_row

VARIANTS: dict[str, dict[str, Any]] = {
    "default_soft_both_forget": {},
    "hard_both": {"weighting": "hard"},
    "quadratic_both": {"weighting": "quadratic"},
    "soft_act": {"sides": "act"},
    "soft_grad": {"sides": "grad"},
    "none": {"sides": "none"},
    "retain_soft_both": {"statistics": "retain"},
    "no_lora": {"lora_rank": 0},
}
SHOWN = ("model.layers.1.mlp.down_proj", "model.layers.0.mlp.gate_proj")


@pytest.fixture(scope="module")
def folder(shared: Path | None) -> Path:
    if shared is None:
        pytest.skip("no golden files")
    return shared / "golden" / "depth"


def batches(folder: Path, kind: str) -> list[RowBatch]:
    stored = load_file(folder / "repselect" / "repselect_batches.safetensors")
    found = []
    for n in range(2):
        ids, mask, labels = (stored[f"batch{n}.{kind}.{key}"] for key in ("input_ids", "attention_mask", "labels"))
        found.append(RowBatch(ids, mask, labels, torch.ones(ids.shape)))
    return found


def gradients(loaded: LoadedModel, folder: Path, names: list[str], lora: bool) -> dict[str, torch.Tensor]:
    if not lora:
        return repselect.ascent_gradients(loaded, names, batches(folder, "forget"))
    adapter = Adapter(loaded, AdapterConfig("lora", r=8, alpha=8, dropout=0.0, targets=names), 0)
    start = load_file(folder / "repselect" / "repselect_lora_init.safetensors")
    try:
        for name, value in start.items():
            module, _, part = name.rpartition(".lora_")
            layer: Any = loaded.model.get_submodule(module)
            getattr(layer, f"lora_{part[0]}")["default"].weight.data.copy_(value)
        return repselect.ascent_gradients(loaded, names, batches(folder, "forget"), adapter, 0.5)
    finally:
        adapter.remove()


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_gradients_and_their_collapse_are_those_of_the_reference(folder: Path, variant: str) -> None:
    loaded = golden_depth.model(folder, "mix")
    settings = {**repselect.SETTINGS, "directions": 6, **VARIANTS[variant]}
    names = repselect.mlp_matrices(loaded, [], None)
    assert len(names) == 12
    basis = repselect.ascent_gradients(loaded, names, batches(folder, "retain")) if settings["statistics"] == "retain" else None
    found = gradients(loaded, folder, names, bool(settings["lora_rank"]))
    expected = load_file(folder / "repselect" / "repselect_expected.safetensors")
    record = golden_depth.read(folder, "repselect/repselect.json")["variants"][variant]
    for name in names:
        filtered = repselect.collapsed(loaded, name, found[name], basis or found, settings)
        assert float(filtered.norm()) == pytest.approx(record["norms"][f"{name}.weight"], rel=1e-4)
        wanted = expected.get(f"{variant}.{name}.filtered_gradient")
        if wanted is not None:
            assert float((filtered - wanted).norm() / wanted.norm()) < 1e-4
        inside = expected.get(f"{variant}.{name}.svd_input")
        if inside is not None:
            assert float(((basis or found)[name] - inside).norm() / inside.norm()) < 1e-4
    assert not any("lora" in name for name, _ in loaded.model.named_parameters())


def test_collapse_changes_the_spectrum_alone_where_the_directions_are_its_own() -> None:
    gradient = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    before = torch.linalg.svdvals(gradient)
    q = 4
    for weighting, sides, spectrum in (
        ("soft", "act", [before[q - 1]] * q),
        ("soft", "both", list(before[q - 1] ** 2 / before[:q])),
        ("quadratic", "both", list(before[q - 1] ** 4 / before[:q] ** 3)),
        ("hard", "both", [0.0] * q),
    ):
        found, used = collapse(gradient, gradient, directions=q, weighting=weighting, sides=sides)
        assert used == q
        wanted = torch.tensor(sorted([*map(float, spectrum), *before[q:].tolist()], reverse=True))
        assert torch.allclose(torch.linalg.svdvals(found), wanted, atol=1e-5)
    flat, used = collapse(torch.ones(4, 5), torch.ones(4, 5), directions=None, weighting="hard", sides="both")
    assert used == 0, "of rank one: no direction is common to several facts"
    assert torch.equal(flat, torch.ones(4, 5))


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e6])
def test_the_longest_step_within_the_budget_is_found(start: float) -> None:
    length, spent, count = longest_step(lambda step: step**2, 0.01, start)
    assert 0.95 * 0.01 <= spent <= 0.01
    assert length == pytest.approx(math.sqrt(spent))
    assert count <= 29
    assert longest_step(lambda step: math.nan, 0.01, start)[:2] == (0.0, 0.0)


def test_the_divergence_is_zero_before_any_change_and_positive_after() -> None:
    loaded = tiny_llama()
    rows = [make_row(loaded.prompts.prompt(f.question).ids, loaded.prompts.answer_ids(f.answer)) for f in STEP.retain]
    measure = Divergence(loaded, rows)
    assert measure() == pytest.approx(0.0, abs=1e-7)
    with torch.no_grad():
        loaded.model.get_submodule("model.layers.1.mlp.down_proj").weight.mul_(3)
    assert measure() > 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_step_makes_the_facts_less_likely_within_the_budget(family: str) -> None:
    start = tiny(family)
    loaded, patch = erased(shipped("repselect"), loaded=tiny(family))
    assert loss_on(loaded) > loss_on(start)
    assert 0.95 * 0.01 <= patch.info["divergence"] <= 0.01
    mlp = {f"{name}.weight" for name in repselect.mlp_matrices(start, [], None)}
    assert patch.dense.keys() == mlp


def test_a_step_can_be_restricted_to_some_matrices() -> None:
    narrow = replace(UNLEARN, modules=["down_proj"], layers=[1])
    _, patch = erased(shipped("repselect"), narrow)
    assert list(patch.dense) == ["model.layers.1.mlp.down_proj.weight"]
    with pytest.raises(UserError, match="no matrix of the MLPs is called down"):
        erased(shipped("repselect"), replace(UNLEARN, modules=["down"]))


def test_a_budget_that_every_step_breaks_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_llama()
    before = [p.detach().clone() for p in loaded.model.parameters()]
    monkeypatch.setattr(Divergence, "__call__", lambda self: 1.0)
    with pytest.raises(UserError, match="the model stays as it was"):
        erased(shipped("repselect"), loaded=loaded)
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.model.parameters(), strict=True))


@pytest.mark.parametrize(("key", "value"), [("budget", 0.0), ("weighting", "softly"), ("sides", "left"), ("statistics", "all")]
    + [("directions", value) for value in ("x", 2.5, -5, True)])
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(key: str, value: Any) -> None:
    method = replace(shipped("repselect"), settings={key: value})
    with pytest.raises(UserError, match=key):
        repselect.check(Experiment(method=method, unlearn=UNLEARN), [STEP], [])


def test_sharpness_that_no_part_of_it_reads_is_refused() -> None:
    sharp = replace(UNLEARN, sharpness=0.1)
    with pytest.raises(UserError, match="does not read unlearn.sharpness=0.1"):
        repselect.check(Experiment(method=shipped("repselect"), unlearn=sharp), [STEP], [])
