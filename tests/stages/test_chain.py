"""Chains through the pipeline: parts in order, a patch each, killed and resumed, taken back one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.sequences import experiment, make
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, PartConfig, TermConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery.edited_folder import write_edited
from unierase_cli.delivery.export_patch import export_patch
from unierase_cli.delivery.patch_revert import revert
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.delivery.replan import replan
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import chain, unierase
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.pipeline.model_states import apply_erasure
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import erase
from unierase_cli.store.artefact import Artefact, read_artefact
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.store.tensors import load_tensors
from unierase_cli.store.unlearned import forgotten_in

pytestmark = pytest.mark.slow

BATCH = ModeConfig()
PUSH = PartConfig("me_gd", "gradient", False, False, TermConfig("me"), TermConfig("gd"), unlearn={"epochs": 1})
MEND = PartConfig("repair", None, False, False, retain=TermConfig("gd"), settings={"steps": 2})
CHAIN = MethodConfig("deep", "chain", chain={"me_gd": PUSH, "unierase": PartConfig("unierase")})


def bits(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


def same(first: LoadedModel, second: LoadedModel) -> bool:
    pairs = zip(bits(first).items(), bits(second).items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def model(config: Experiment) -> LoadedModel:
    return load_model(config.model, config.run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Artefact]:
    config = experiment(folder, tmp_path_factory.mktemp("outputs"), BATCH, method=CHAIN)
    return config, make(config, "erase")


def test_every_part_leaves_a_patch_of_its_own(made: tuple[Experiment, Artefact]) -> None:
    _, run = made
    whole = Patch.load(run.path, 0)
    push, edit = whole.parts
    assert [push.part, edit.part] == ["me_gd", "unierase"]
    assert push.dense
    assert not push.tokens
    assert not any("embed" in name or "lm_head" in name for name in push.dense), "the token adds rows to these"
    assert edit.factors
    assert edit.tokens is whole.rows
    (info,) = read_jsonl(run.path / "steps.jsonl")
    assert info["layers"]
    assert info["parts"]["me_gd"]["losses"]
    assert info["changed_share"] > 0.5, "the scrub's share too, not the edit's alone"
    assert not list(run.path.rglob(".state-after*"))


def test_the_parts_rebuild_the_model_and_revert_it_bit_by_bit(made: tuple[Experiment, Artefact]) -> None:
    config, run = made
    one, two, plain = model(config), model(config), model(config)
    apply_erasure(one, run.path)
    applied = apply_patches(two, [Patch.load(run.path, 0)])
    assert same(one, two)
    assert not same(one, plain)
    applied.revert()
    assert same(two, plain)


def test_the_edit_is_computed_on_the_model_that_the_first_part_left(
    made: tuple[Experiment, Artefact], tmp_path: Path
) -> None:
    config, run = made
    alone = make(replace(config, method=MethodConfig("unierase")), "erase")
    edit, other = Patch.load(run.path, 0), Patch.load(alone.path, 0)
    assert edit.base_hashes == other.base_hashes, "a patch belongs to the unedited model"
    assert not torch.equal(edit.factors[1].left, other.factors[1].left)


def test_moments_can_be_those_of_the_model_that_the_first_part_left(made: tuple[Experiment, Artefact]) -> None:
    config, run = made
    assert not (run.path / "moments").exists()
    again = make(replace(config, method=replace(CHAIN, settings={"renew": True})), "erase")
    own = load_tensors(again.path / "moments" / "moments.safetensors")
    before = load_tensors(make(config, "moments").path / "moments.safetensors")
    assert not torch.equal(own["layer.1.eigenvalues"], before["layer.1.eigenvalues"])
    edits = [Patch.load(artefact.path, 0).factors[1] for artefact in (run, again)]
    assert not torch.equal(edits[0].left, edits[1].left)


def test_a_run_killed_between_two_parts_goes_on_after_the_first(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(made[0], run=replace(made[0].run, outputs=str(tmp_path)))

    def killed(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(unierase, "erase", killed)
        with pytest.raises(KeyboardInterrupt):
            make(config, "erase")
    ran: list[str] = []
    load = chain.load_method

    def seen(name: str) -> Any:
        ran.append(name)
        return load(name)

    monkeypatch.setattr(chain, "load_method", seen)
    again = make(config, "erase")
    # The checks ask every part; only the second one runs.
    assert ran == ["gradient", "unierase", "unierase"] or ran == ["unierase"]
    first, second = model(config), model(config)
    apply_erasure(first, made[1].path)
    apply_erasure(second, again.path)
    assert same(first, second)


def test_one_part_can_be_left_out(made: tuple[Experiment, Artefact]) -> None:
    config, run = made
    (push,) = choose_steps(run, parts=["unierase"]).patches()
    assert push.dense
    (edit,) = choose_steps(run, parts=["me_gd"]).patches()
    assert edit.factors
    loaded = model(config)
    apply_patches(loaded, [edit])
    changed = {
        name
        for name, tensor in bits(loaded).items()
        if not torch.equal(tensor, bits(model(config)).get(name, tensor[:0]))
    }
    assert {name for name in changed if "down_proj" not in name} <= {"model.embed_tokens.weight", "lm_head.weight"}
    for parts, message in ((["scrub"], "has no part scrub"), (["me_gd", "unierase"], "nothing is left")):
        with pytest.raises(UserError, match=message):
            choose_steps(run, parts=parts)


def test_a_part_below_another_that_replaces_its_tensors_cannot_be_left_out_alone(folder: Path, tmp_path: Path) -> None:
    method = replace(CHAIN, chain={"me_gd": PUSH, "repair": MEND})
    config = experiment(folder, tmp_path, BATCH, method=method)
    run = make(config, "erase")
    with pytest.raises(UserError, match="repair was trained on top of it") as caught:
        choose_steps(run, parts=["me_gd"])
    assert "--drop me_gd --drop repair" in caught.value.hint
    assert [one.part or "last" for one in choose_steps(run, parts=["repair"]).patches()] == ["last"]
    both, last = model(config), model(config)
    apply_patches(both, choose_steps(run).patches())
    apply_erasure(last, run.path)
    assert same(both, last), "what a later part replaces need not be read"


def test_a_folder_without_a_part_says_so_and_reverts(made: tuple[Experiment, Artefact], tmp_path: Path) -> None:
    config, run = made
    chosen = choose_steps(run, parts=["unierase"])
    reporter = SilentReporter()
    write_edited(model(config), chosen, tmp_path / "without", reporter)
    assert any("unierase left out" in text for text in reporter.warnings)
    assert len(forgotten_in(tmp_path / "without")) == 6, "the parts that are left still forget them"
    result = revert(tmp_path / "without", run, tmp_path / "back", reporter, base=config.model.path)
    assert result["bit_exact"]


def test_exported_patches_keep_their_parts(made: tuple[Experiment, Artefact], tmp_path: Path) -> None:
    config, run = made
    export_patch(choose_steps(run), tmp_path / "patch", SilentReporter())
    exported = choose_steps(read_artefact(tmp_path / "patch"))
    one, two = model(config), model(config)
    apply_patches(one, exported.patches())
    apply_erasure(two, run.path)
    assert same(one, two)
    (push,) = choose_steps(read_artefact(tmp_path / "patch"), parts=["unierase"]).patches()
    assert push.dense


def test_a_sequence_runs_the_chain_at_every_step(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, ModeConfig("sequential", steps=2), method=CHAIN)
    run = make(config, "erase")
    patches = [Patch.load(run.path, step) for step in range(2)]
    assert [[one.part for one in patch.parts] for patch in patches] == [["me_gd", "unierase"]] * 2
    assert EditState.load(run.path / "state.safetensors").steps == 2
    whole, until = model(config), model(config)
    apply_erasure(whole, run.path)
    apply_erasure(until, run.path, upto=0)
    applied = apply_patches(model(config), patches)
    assert all(torch.equal(p, bits(whole)[name]) for name, p in applied.parameters())
    assert not same(whole, until)
    with pytest.raises(UserError, match=r"step 0 of .* cannot be left out alone"):
        choose_steps(run, drop=[0])
    chosen = choose_steps(run, drop=[0], parts=["unierase"], replanned=True)
    anew = replan(chosen, SilentReporter(), outputs=config.run.outputs, device="cpu")
    assert (anew.steps, anew.parts_dropped) == ((0,), ("unierase",))
    (push,) = anew.patches()
    assert push.info["facts"] == patches[1].info["facts"]
    assert push.dense


def test_facts_one_by_one_start_from_the_original_model(folder: Path, tmp_path: Path) -> None:
    mode = ModeConfig("precise", limit=2, near=1, far=2, hold=1)
    config = experiment(folder, tmp_path, mode, method=CHAIN)
    both = make(config, "erase")
    alone = make(replace(config, mode=replace(mode, limit=1)), "erase")
    for one, other in zip(Patch.load(both.path, 0).parts, Patch.load(alone.path, 0).parts, strict=True):
        assert one.tensors().keys() == other.tensors().keys()
        assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
    make(config, "observe_facts")


def test_settings_of_a_part_are_its_own_and_count(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    other = replace(CHAIN, chain={**CHAIN.chain, "me_gd": replace(PUSH, unlearn={"epochs": 2})})
    assert made[1].key != make(replace(config, method=other), "erase").key
    weighted = replace(CHAIN, chain={**CHAIN.chain, "me_gd": replace(PUSH, unlearn={"token_weights": "attribution"})})
    found = [erase.fingerprints(study_of(replace(config, method=method)), {}) for method in (CHAIN, weighted)]
    assert found[1] == {**found[0], "method.chain.me_gd.token_weights": "attribution"}
    wrong = replace(CHAIN, chain={**CHAIN.chain, "me_gd": replace(PUSH, unlearn={"epoch": 2})})
    with pytest.raises(UserError, match="method.chain.me_gd.unlearn has no setting 'epoch'"):
        make(replace(config, method=wrong), "erase")
