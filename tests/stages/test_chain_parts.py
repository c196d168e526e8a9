"""What the parts of a chain share and what is each part's own: token rows, states of edits, settings, revealed rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import STEP, context
from tests.helpers.sequences import experiment, make
from tests.helpers.tiny_models import FACTS, save_folder, tiny_llama
from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, PartConfig, TermConfig
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LayerState
from unierase_cli.editing.state import EditState
from unierase_cli.methods import chain
from unierase_cli.methods.own_answers import own_answers
from unierase_cli.methods.parts import parts_of
from unierase_cli.models.load import load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.stages import erase
from unierase_cli.stages.shared import erase_context
from unierase_cli.store.jsonl import write_jsonl
from unierase_cli.training.unlearning.said import Said

TOKEN = PartConfig("unierase")
REFUSAL = PartConfig("memit", token=False)
HARD = PartConfig("alphaedit", token=False)
PUSH = PartConfig("me_gd", "gradient", False, False, TermConfig("me"), TermConfig("gd"))


def chained(**parts: PartConfig) -> MethodConfig:
    uses = {key: any(getattr(part, key) for part in parts.values()) for key in ("token", "editing")}
    return MethodConfig("own", "chain", **uses, chain=parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


@pytest.mark.slow
@pytest.mark.parametrize("order", [["memit", "unierase"], ["unierase", "memit"]])
def test_only_the_part_with_the_token_carries_its_rows(folder: Path, tmp_path: Path, order: list[str]) -> None:
    parts = {"memit": REFUSAL, "unierase": TOKEN}
    config = experiment(folder, tmp_path, ModeConfig(), method=chained(**{name: parts[name] for name in order}))
    config = replace(config, token=replace(config.token, refine_epochs=1))
    run = make(config, "erase")
    whole = Patch.load(run.path, 0)
    rows = {one.part: one.tokens for one in whole.parts}
    assert rows["memit"] is None
    assert rows["unierase"] is not None
    trained = TokenRows.load(make(config, "train_token").path)
    assert not torch.equal(rows["unierase"].rows_in, trained.rows_in), "the refined rows"
    assert whole.rows is rows["unierase"]
    assert all(patch.rows is None for patch in choose_steps(run, parts=["unierase"]).patches())


@pytest.mark.slow
def test_every_closed_form_part_preserves_its_own_earlier_edits_alone(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig("sequential", steps=2), method=chained(unierase=TOKEN, alphaedit=HARD))
    run = make(config, "erase")
    state = EditState.load(run.path / "state.safetensors")
    assert not state.layers
    assert list(state.parts) == ["unierase", "alphaedit"]
    assert {layer.edits for layers in state.parts.values() for layer in layers.values()} == {6}
    ridges = [[layer.lambda_ for layer in layers.values()] for layers in state.parts.values()]
    assert ridges[0] != ridges[1]


def test_the_state_of_parts_survives_its_file(tmp_path: Path) -> None:
    keys = torch.ones(3, 2)
    state = EditState(1).before_part("a")
    state.layers[4] = LayerState(0.5, keys)
    state = state.after_part("a").before_part("b")
    assert not state.layers
    state.layers[4] = LayerState(0.25)
    state.after_part("b").save(tmp_path / "state.safetensors")
    loaded = EditState.load(tmp_path / "state.safetensors")
    first, second = loaded.before_part("a").layers[4], loaded.before_part("b").layers[4]
    assert (first.lambda_, second.lambda_, second.whitened) == (0.5, 0.25, None)
    assert first.whitened is not None
    assert torch.equal(first.whitened, keys)


@pytest.mark.slow
def test_a_scrub_with_nothing_to_do_leaves_the_rest_of_a_sequence_to_the_other_part(folder: Path, tmp_path: Path) -> None:
    known = PartConfig("scrub", None, False, False, TermConfig("bounded"), TermConfig("gd"), settings={"margin": 0.1})
    config = experiment(folder, tmp_path, ModeConfig("sequential", steps=2), method=chained(scrub=known, unierase=TOKEN))
    run = make(config, "erase")
    for step in range(2):
        first, second = Patch.load(run.path, step).parts
        assert not first.tensors()
        assert second.factors
    assert all(patch.factors for patch in choose_steps(run, parts=["scrub"]).patches())
    loaded = load_model(config.model, config.run)
    applied = apply_patches(loaded, [Patch.load(run.path, step) for step in range(2)])
    assert list(applied.parameters())


@pytest.mark.slow
def test_what_one_part_preserves_is_not_taken_for_anothers(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig())
    moments = make(config, "moments")
    given: Any = SimpleNamespace(inputs={"moments": moments})
    find = erase_context._preservations(given, tiny_llama(), True)
    soft, hard = (find(1, EditConfig(preserve=how, threshold=0.5)) for how in ("ridge", "null_space"))
    assert soft is not hard
    assert find(1, EditConfig(preserve="ridge", threshold=0.5)) is soft


class Recorded:
    """A method that records its context."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def erase(self, loaded: Any, step: Any, state: EditState, context: Any) -> Any:
        self.seen.append(context)
        return Patch(None, {}, {}), state


def test_a_part_reads_its_own_token_weights_and_answer_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.jsonl"
    write_jsonl(file, [{"fact": FACTS[0].id, "weights": [1, 0]}])
    weighed = replace(PUSH, unlearn={"token_weights": str(file)})
    loaded, method = tiny_llama(), Recorded()
    monkeypatch.setattr(chain, "load_method", lambda name: method)
    lengths: list[int] = []

    def answer(prompts: Any, most: int) -> list[Said]:
        lengths.append(most)
        return [Said("so it is", True) for _ in prompts]

    own = replace(PUSH, unlearn={"answers": "model", "answer_tokens": 5})
    given = replace(context(loaded, chained(first=weighed, second=own)), answer=answer)
    chain.erase(loaded, STEP, EditState(), given)
    assert [dict(one.token_weights) for one in method.seen] == [{FACTS[0].id: (1.0, 0.0)}, {}]
    own_answers(loaded, method.seen[1], STEP.forget, 0)
    assert lengths == [5]


def test_a_parts_token_weights_count_by_their_content(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.jsonl"
    config = experiment(folder, tmp_path, ModeConfig(), method=chained(me_gd=replace(PUSH, unlearn={"token_weights": str(file)})))

    def found(config: Experiment) -> dict[str, str]:
        return erase.fingerprints(Pipeline(config, SilentReporter()).study, {})

    with pytest.raises(UserError, match="method.chain.me_gd.unlearn.token_weights=.* is not a file"):
        found(config)
    write_jsonl(file, [{"fact": "x", "weights": [1, 0]}])
    before = found(config)
    write_jsonl(file, [{"fact": "x", "weights": [1, 1]}])
    assert found(config) != before


def test_a_part_can_reveal_again_and_its_targets_count(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    targets = tmp_path / "names.txt"
    targets.write_text("Ada Velour\n")
    settings = {"rounds": 2, "least_rows": 1}
    part = PartConfig("release", None, False, False, settings=settings)
    config = experiment(
        folder, tmp_path / "outputs", ModeConfig(), method=chained(release=part), reveal=RevealConfig(targets=str(targets)),
        adapter=AdapterConfig(name="lora", r=4, dropout=0.0),
    )  # fmt: skip
    assert "reveal targets" in erase.fingerprints(Pipeline(config, SilentReporter()).study, {})
    method = Recorded()
    monkeypatch.setattr(chain, "load_method", lambda name: method)
    make(config, "erase")
    assert method.seen[0].reveal is not None


def test_a_parts_rate_is_a_share_of_the_runs_unless_it_has_one_of_its_own(folder: Path, tmp_path: Path) -> None:
    def rates(**parts: PartConfig) -> list[float]:
        config = replace(experiment(folder, tmp_path, ModeConfig(), method=chained(**parts)), unlearn=UnlearnConfig(lr=0.01))
        return [part.unlearn.lr for part in parts_of(config).values()]

    faster = replace(PUSH, rate=4.0)
    assert rates(me_gd=PUSH, faster=faster, own=replace(faster, unlearn={"lr": 0.5})) == [0.01, 0.04, 0.5]
    with pytest.raises(UserError, match=r"method.chain.faster.rate=0.0 must be above 0"):
        rates(faster=replace(PUSH, rate=0.0))
    with pytest.raises(UserError, match=r"rate=2: unierase is a closed-form edit"):
        rates(unierase=replace(TOKEN, rate=2.0))
    counted_part = counted(chained(me_gd=PUSH))["chain"]["me_gd"]
    assert "rate" not in counted_part
    assert counted(chained(me_gd=faster))["chain"]["me_gd"]["rate"] == 4.0
