"""Patches put on model folders and taken off again: bit for bit, or refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.patched import edits, experiment, finished, gradient_method, model_folder, unedited
from tests.helpers.patches import dense_patch, named_patch
from tests.helpers.tiny_models import FAMILIES
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.delivery import patches as patches_module
from unierase_cli.delivery.edited_folder import load_folder, write_edited
from unierase_cli.delivery.export import export
from unierase_cli.delivery.patch_revert import revert
from unierase_cli.delivery.patches import choose_steps
from unierase_cli.editing.apply import apply_patches
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.patch_files import first_gap, patch_path

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run_on(
    tmp_path: Path, family: str = "llama", stored: str = "float32", computed: str = "float32", steps: int = 2
) -> tuple[Path, Artefact]:
    """A model folder and a run on it. ``stored``: the checkpoint's type; ``computed``: the type that was edited in."""
    model = model_folder(family, tmp_path / "model", TYPES[stored])
    config = experiment(model, tmp_path / "outputs", computed)
    return model, finished(config, edits(unedited(config), steps))


def applied(model: Path, run: Artefact, out: Path, until: int | None = None, drop: tuple[int, ...] = ()) -> Path:
    chosen = choose_steps(run, until, drop)
    write_edited(load_folder(chosen, str(model), SilentReporter(), "cpu"), chosen, out, SilentReporter())
    return out


def taken_back(folder: Path, run: Artefact, out: Path, base: Path | None = None) -> Path:
    revert(folder, run, out, SilentReporter(), base=None if base is None else str(base), device="cpu")
    return out


def same_files(a: Path, b: Path) -> bool:
    """Whether two folders' weights agree in names, types and bits, and their tokenizers in words."""
    one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    bits = one.keys() == two.keys() and all(one[n].dtype == two[n].dtype and torch.equal(one[n], two[n]) for n in one)
    return bits and AutoTokenizer.from_pretrained(a).get_vocab() == AutoTokenizer.from_pretrained(b).get_vocab()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_applied_folder_has_the_bits_of_the_patched_model(family: str, tmp_path: Path) -> None:
    model, run = run_on(tmp_path, family)
    loaded = unedited(experiment(model, tmp_path))
    apply_patches(loaded, choose_steps(run).patches())
    found = AutoModelForCausalLM.from_pretrained(applied(model, run, tmp_path / "out"), dtype=torch.float32)
    assert all(torch.equal(p, found.get_parameter(name)) for name, p in loaded.model.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids("<unlearn_0>") == loaded.unlearn_ids[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrow_checkpoint_edited_in_float32_comes_back_bit_for_bit(family: str, tmp_path: Path) -> None:
    model, run = run_on(tmp_path, family, stored="bfloat16")
    folder = applied(model, run, tmp_path / "edited")
    assert not same_files(model, folder)
    assert same_files(model, taken_back(folder, run, tmp_path / "back", model))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2", "mistral"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_checkpoint_edited_in_its_own_type_comes_back_bit_for_bit(family: str, kind: str, tmp_path: Path) -> None:
    model, run = run_on(tmp_path, family, stored=kind, computed=kind)
    folder = applied(model, run, tmp_path / "edited")
    assert same_files(model, taken_back(folder, run, tmp_path / "back", model))


def test_nothing_in_an_edited_folder_gives_back_what_was_forgotten(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, "qwen2", stored="bfloat16")
    for folder in (applied(model, run, tmp_path / "edited"), tmp_path / "merged"):
        if not folder.exists():
            export(run, folder, SilentReporter(), str(tmp_path / "outputs"), device="cpu")
        assert not [path for path in folder.iterdir() if path.is_dir()]
        assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
        assert set(json.loads((folder / "unierase.json").read_text())["base"]) == {"source", "fingerprint", "stored", "tensors"}
        with pytest.raises(UserError, match="does not contain its unedited tensors; .* - add --base FOLDER"):
            taken_back(folder, run, tmp_path / "back")
        assert not (tmp_path / "back").exists()


def test_an_exported_model_is_taken_back_too(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, stored="bfloat16")
    export(run, tmp_path / "merged", SilentReporter(), str(tmp_path / "outputs"), device="cpu")
    assert same_files(model, taken_back(tmp_path / "merged", run, tmp_path / "back", model))


def test_every_tensor_of_the_original_is_checked_and_not_believed(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, stored="bfloat16")
    folder = applied(model, run, tmp_path / "edited")
    other = model_folder("llama", tmp_path / "other", torch.bfloat16, seed=1)
    with pytest.raises(UserError, match=r"other is not the model that .*edited was made from: .* - give --base the folder"):
        taken_back(folder, run, tmp_path / "back", other)
    with pytest.raises(UserError, match="edited is not the model that"):
        taken_back(folder, run, tmp_path / "back", folder)
    changed = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        changed.get_parameter("model.norm.weight")[0] += 1
    changed.save_pretrained(model)
    line = r"model is not the model that .*edited was made from: 1 tensors differ, e.g. model.norm.weight \(sha256 \w{12}, "
    with pytest.raises(UserError, match=line):
        taken_back(folder, run, tmp_path / "back", model)
    assert not (tmp_path / "back").exists()


def test_only_a_folder_of_this_run_is_taken_back(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, stored="bfloat16")
    config = experiment(model, tmp_path / "outputs")
    second = finished(config, edits(unedited(config)), "second")
    folder = applied(model, run, tmp_path / "edited")
    with pytest.raises(UserError, match="was edited with run@v001, not with second@v001"):
        taken_back(folder, second, tmp_path / "back", model)
    with pytest.raises(UserError, match="has no unierase.json"):
        taken_back(model, run, tmp_path / "back", model)


@pytest.mark.parametrize("make", [dense_patch, named_patch])
def test_changes_of_gradient_methods_are_taken_back(make, tmp_path: Path) -> None:
    model = model_folder("gpt2", tmp_path / "model", torch.bfloat16)
    config = experiment(model, tmp_path / "outputs", method=gradient_method())
    run = finished(config, [make(unedited(config))])
    folder = applied(model, run, tmp_path / "edited")
    assert same_files(model, taken_back(folder, run, tmp_path / "back", model))


def test_steps_up_to_one_and_without_one(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, steps=3)

    def weight(out: Path) -> torch.Tensor:
        return load_file(out / "model.safetensors")["model.layers.2.mlp.down_proj.weight"]

    base = weight(model)
    deltas = [Patch.load(run.path, step).factors[2].dense() for step in range(3)]
    assert torch.equal(weight(applied(model, run, tmp_path / "first", until=0)), base + deltas[0])
    assert torch.equal(weight(applied(model, run, tmp_path / "two", until=1)), base + deltas[0] + deltas[1])
    assert torch.equal(weight(applied(model, run, tmp_path / "less", drop=(1,))), base + deltas[0] + deltas[2])
    assert torch.equal(weight(applied(model, run, tmp_path / "last", drop=(0, 1))), base + deltas[2])
    record = json.loads((tmp_path / "less" / "unierase.json").read_text())
    assert (record["steps"], record["dropped"]) == ([0, 2], [1])
    assert same_files(model, taken_back(tmp_path / "less", run, tmp_path / "back", model))


def test_steps_that_were_computed_on_a_dropped_one_are_named(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, steps=3)
    one, both = "steps 2 were computed with step 1 applied", "steps 1 were computed with step 0 applied"
    for drop, warnings in (((1,), [one]), ((2,), []), ((0, 2), [both])):
        chosen, reporter = choose_steps(run, None, drop), SilentReporter()
        write_edited(load_folder(chosen, str(model), reporter, "cpu"), chosen, tmp_path / f"out{drop[0]}", reporter)
        assert [text.split(":")[0] for text in reporter.warnings] == warnings


@pytest.mark.parametrize("first", ["dense", "named", "layers"])
def test_a_step_that_a_later_one_contains_is_not_left_out_alone(first: str, tmp_path: Path) -> None:
    model = model_folder("llama", tmp_path / "model")
    config = experiment(model, tmp_path / "outputs", mode=ModeConfig("sequential"))
    loaded, name = unedited(config), "model.layers.1.mlp.down_proj.weight"
    early = {"dense": dense_patch(loaded, 0, [name]), "named": named_patch(loaded, 0, [name]), "layers": edits(loaded)[0]}[first]
    patches = [early, dense_patch(loaded, 1, [name]), named_patch(loaded, 2, [name])]
    run = finished(config, [replace(patch, info={"step": step}) for step, patch in enumerate(patches)])
    with pytest.raises(UserError, match=r"step 0 of run@v001 cannot be left out alone: step 1 .* - add --replan"):
        choose_steps(run, None, (0,))
    assert choose_steps(run, None, (0,), replanned=True).steps == (1, 2)
    # Low-rank changes are added to what is there, so the step below them can be left out; so can a step that nothing follows.
    assert choose_steps(run, None, (1,)).steps == (0, 2)
    assert choose_steps(run, None, (0, 1)).steps == (2,)
    assert choose_steps(run, 1, (1,)).steps == (0,)


@pytest.mark.parametrize("info", [{"rehearsed": 3}, {"parts": {"rmu": {"rehearsed": 3}}}])
def test_steps_that_forgot_a_dropped_ones_facts_again_are_named(info: dict[str, Any], tmp_path: Path) -> None:
    model = model_folder("llama", tmp_path / "model")
    config = experiment(model, tmp_path / "outputs")
    patches = edits(unedited(config), 2)
    patches[1] = replace(patches[1], info={**patches[1].info, **info})
    chosen, reporter = choose_steps(finished(config, patches), None, (0,)), SilentReporter()
    write_edited(load_folder(chosen, str(model), reporter, "cpu"), chosen, tmp_path / "out", reporter)
    assert [text.split(":")[0] for text in reporter.warnings] == [
        "steps 1 were computed with step 0 applied and forgot its facts again"
    ]


def test_the_token_rows_of_the_last_kept_step_count(tmp_path: Path) -> None:
    model = model_folder("llama", tmp_path / "model")
    config = experiment(model, tmp_path / "outputs")
    patches = edits(unedited(config), 2)
    first = patches[0].tokens
    assert first is not None
    patches[1].tokens = TokenRows(first.names, first.ids, first.rows_in + 1, first.rows_out)
    run = finished(config, patches)
    for drop, rows in (((), first.rows_in + 1), ((1,), first.rows_in)):
        folder = applied(model, run, tmp_path / f"out{len(drop)}", drop=drop)
        embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        assert torch.equal(embedding[first.ids], rows)


def test_another_model_is_refused_with_both_hashes_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    _, run = run_on(tmp_path)
    other = model_folder("llama", tmp_path / "other", seed=1)
    line = r"another model: model.layers.1.mlp.down_proj: its content differs \(sha256 \w{12}, the patch was made on \w{12}\)"
    with pytest.raises(UserError, match=line) as caught:
        applied(other, run, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))[1:], "outputs only"


def test_missing_and_swapped_steps_are_refused(tmp_path: Path) -> None:
    _, run = run_on(tmp_path, steps=3)
    for wrong in ({"until": 3}, {"drop": (7,)}, {"until": -1}):
        with pytest.raises(UserError, match=r"has no step -?\d - choose one of: 0, 1, 2"):
            choose_steps(run, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing is left"):
        choose_steps(run, 1, (0, 1))
    for ending in ("json", "safetensors"):
        shutil.move(patch_path(run.path, 1, ending), patch_path(tmp_path, 1, ending))
        shutil.copy(patch_path(run.path, 2, ending), patch_path(run.path, 1, ending))
    with pytest.raises(UserError, match="out of order: the file of step 1 contains step 2"):
        choose_steps(run)
    patch_path(run.path, 1, "json").unlink()
    with pytest.raises(UserError, match=r"patch-001.json is missing or damaged"):
        choose_steps(run)
    patch_path(run.path, 1, "safetensors").unlink()
    with pytest.raises(UserError, match="the patch of step 1 of run@v001 is missing: only steps 0, 2 of 3"):
        choose_steps(run)
    for ending in ("json", "safetensors"):
        shutil.move(patch_path(tmp_path, 1, ending), patch_path(run.path, 1, ending))
        patch_path(run.path, 2, ending).unlink()
    with pytest.raises(UserError, match="the patch of step 2 of run@v001 is missing"):
        choose_steps(run)


@pytest.mark.parametrize("number", [30_000_000, 10**12, 10**200])
def test_a_number_in_a_files_name_costs_nothing(tmp_path: Path, number: int) -> None:
    _, run = run_on(tmp_path)
    (run.path / f"patch-{number}.json").touch()
    told = f"the patch of step 2 of run@v001 is missing: only steps 0, 1, {number} of {number + 1}"
    with pytest.raises(UserError, match=told):
        choose_steps(run)
    with pytest.raises(UserError, match=f"patch-{number}.json was not there when it was made"):
        _ = run.whole


def test_a_number_of_steps_in_a_manifest_costs_nothing(tmp_path: Path) -> None:
    _, run = run_on(tmp_path)
    run.manifest["summary"]["steps"] = 10**15
    with pytest.raises(UserError, match=f"the patch of step 2 of run@v001 is missing: only steps 0, 1 of {10**15}"):
        choose_steps(run)


def test_the_first_gap_among_steps() -> None:
    assert first_gap([0, 1, 2], 3) is None
    assert first_gap([0, 1, 2], 4) == 3
    assert first_gap([0, 2], 0) == 1
    assert first_gap([1], 0) == 0
    assert first_gap([], 2) == 0
    assert first_gap([], 0) is None


def test_of_steps_that_stand_alone_one_is_taken_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = run_on(tmp_path, steps=3)
    monkeypatch.setattr(patches_module, "load_mode", lambda name: SimpleNamespace(INDEPENDENT=True))
    with pytest.raises(UserError, match="starts from the original model"):
        choose_steps(run)
    assert choose_steps(run, 2).steps == (2,)


def test_a_patch_folder_stands_for_the_run_wherever_it_is(tmp_path: Path) -> None:
    model, run = run_on(tmp_path, stored="bfloat16", steps=3)
    export(run, tmp_path / "carried", SilentReporter(), kind="patch", until=1)
    shutil.rmtree(tmp_path / "outputs")
    manifest = json.loads((tmp_path / "carried" / "manifest.json").read_text())
    assert manifest["unlearning_tokens"] == {"<unlearn_0>": unedited(experiment(model, tmp_path)).tokenizer.vocab_size}
    assert manifest["base_hashes"] == AppliedPatch(unedited(experiment(model, tmp_path))).hashes([1, 2])
    carried = Artefact(tmp_path / "carried", manifest)
    assert choose_steps(carried).steps == (0, 1)
    folder = applied(model, carried, tmp_path / "edited")
    assert same_files(model, taken_back(folder, carried, tmp_path / "back", model))
