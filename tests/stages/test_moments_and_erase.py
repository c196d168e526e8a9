"""The stages moments and erase through the pipeline: what enters their keys, and going on after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.quick_token import quick_token
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TermConfig
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.values import Values, find_values
from unierase_cli.inference import generate as generation
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import erase as erase_stage
from unierase_cli.stages import moments as moments_stage
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import read_jsonl, write_jsonl
from unierase_cli.store.tensors import load_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


def experiment(folder: Path, outputs: Path, **changes: Any) -> Experiment:
    """AlphaEdit on a tiny random model: no token, so that these two stages stand alone."""
    settings: dict[str, Any] = {
        "model": ModelConfig(path=str(folder), key_position="prompt_last"),
        "benchmark": BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5),
        "method": MethodConfig(name="alphaedit", token=False),
        "edit": EditConfig(
            values=ValueConfig(steps=2, lr=0.1, lr_kind="relative", batch_size=8),
            moments=MomentsConfig(max_tokens=12, prompt_end_weight=1.0),
            threshold=0.5,
        ),
        "run": RunConfig(outputs=str(outputs), device="cpu"),
    }
    return Experiment(**{**settings, **changes})


def make(config: Experiment, stage: str) -> Artefact:
    return Pipeline(config, SilentReporter()).make(stage)


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Artefact]:
    config = experiment(folder, tmp_path_factory.mktemp("outputs"))
    return config, make(config, "erase")


def test_the_moments_artefact_holds_a_spectrum_per_layer(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made
    moments = make(config, "moments")
    record = json.loads((moments.path / "moments.json").read_text())
    tensors = load_tensors(moments.path / "moments.safetensors")
    layers = [int(layer) for layer in record["layers"]]
    assert layers == [1, 2], "the rule for four blocks"
    for layer in layers:
        values, vectors = tensors[f"layer.{layer}.eigenvalues"], tensors[f"layer.{layer}.eigenvectors"]
        assert (values.diff() >= 0).all()
        assert torch.allclose(vectors @ vectors.T, torch.eye(48), atol=1e-5)
        assert record["layers"][str(layer)]["largest"] == float(values[-1])
    protected = study_of(config).benchmark.protect
    assert [s["name"] for s in record["sources"]] == ["answers", "prompt ends"]
    assert record["sources"][0]["texts"] == len(protected)
    assert record["sources"][1]["tokens"] == len(protected)


def test_the_erase_artefact_holds_patch_state_and_steps(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    names = sorted(p.name for p in artefact.path.iterdir() if not p.name.startswith("."))
    assert {"patch-000.json", "patch-000.safetensors", "state.safetensors", "steps.jsonl"} <= set(names)
    assert not list(artefact.path.glob(".values*")), "kept searches are removed once the step is complete"
    steps = [json.loads(line) for line in (artefact.path / "steps.jsonl").read_text().splitlines()]
    assert steps[0]["facts"] == [f.id for f in study_of(config).benchmark.forget]
    assert artefact.manifest["summary"]["facts"] == len(study_of(config).benchmark.forget)
    assert Patch.load(artefact.path, 0).tokens is None


def test_only_what_shapes_the_moments_enters_their_key(made: tuple[Experiment, Artefact], tmp_path: Path) -> None:
    config, artefact = made
    keys = artefact.manifest["inputs"]
    other = replace(config, edit=replace(config.edit, threshold=0.4, values=replace(config.edit.values, clamp=0.5)))
    again = Pipeline(other, SilentReporter())
    assert again.plan("erase")[-1].state == "missing"
    assert again.plan("moments")[-1].state == "done"
    assert make(other, "moments").key == keys["moments"]["key"]
    asked = replace(config, protocol=replace(config.protocol, max_new_tokens=3))
    assert Pipeline(asked, SilentReporter()).plan("moments")[-1].state == "done", "how a model is evaluated does not matter"

    def key(**changes: Any) -> str:
        moments = replace(config.edit.moments, **changes)
        return Pipeline(replace(config, edit=replace(config.edit, moments=moments)), SilentReporter()).key(Request("moments"))

    assert key(answer_tokens=3) != key(), "the model's own answers are read"
    assert key(corpus="auto", answer_tokens=3) == key(corpus="auto")
    texts = tmp_path / "texts.jsonl"
    write_jsonl(texts, [{"text": "Some text."}])
    known = {key(), key(prompt_end_weight=9.0), key(texts=str(texts)), key(texts=str(texts), texts_weight=2.0)}
    write_jsonl(texts, [{"text": "Another text."}])
    assert len(known | {key(texts=str(texts))}) == 5, "a file counts by what it holds"
    assert key() == keys["moments"]["key"]
    with pytest.raises(UserError, match=r"edit\.moments\.texts=nowhere does not exist"):
        key(texts="nowhere")


def test_a_method_that_reveals_reads_what_ends_an_answer_and_no_search(folder: Path, tmp_path: Path) -> None:
    config = replace(experiment(folder, tmp_path), method=MethodConfig("release", None, False, False))
    config = replace(config, reveal=RevealConfig(targets="names.txt"))

    def key(**changes: Any) -> dict[str, Any]:
        return erase_stage.reads(study_of(with_settings(config, **changes)), {})

    assert key(protocol__stop=["###"]) != key()
    assert key(reveal__samples=2) != key()
    assert key(reveal__search="random", reveal__budget=7, reveal__diversity=2.0) == key()


def test_own_answers_have_a_length_of_their_own_and_samples_the_protocols(folder: Path, tmp_path: Path) -> None:
    def key(name: str, **changes: Any) -> dict[str, Any]:
        method = MethodConfig(name, "gradient" if name == "me_gd" else None, False, False, TermConfig("me"), TermConfig("gd"))
        config = replace(experiment(folder, tmp_path), method=method)
        return erase_stage.reads(study_of(with_settings(config, unlearn__answers="model", **changes)), {})

    assert key("me_gd", protocol__stop=["###"]) != key("me_gd")
    assert key("me_gd", unlearn__answer_tokens=9) != key("me_gd")
    assert key("me_gd", protocol__max_new_tokens=9) == key("me_gd")
    assert key("altpo", protocol__max_new_tokens=9) != key("altpo")


def test_a_killed_edit_goes_on_and_ends_with_the_same_bits(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = made
    config = experiment(folder, tmp_path)
    calls = {"n": 0}

    def interrupted(*arguments: Any, **keywords: Any) -> Values:
        calls["n"] += 1
        if calls["n"] == 2:
            raise KeyboardInterrupt
        return find_values(*arguments, **keywords)

    monkeypatch.setattr("unierase_cli.editing.checkpoints.find_values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(config, "erase")
    half = tmp_path / "erase" / whole.path.parent.name / "v001"
    assert len(list(half.glob(".values*"))) == 1
    continued = make(config, "erase")
    assert continued.path == half
    assert continued.manifest["resumed"] is True
    first, second = Patch.load(whole.path, 0), Patch.load(continued.path, 0)
    for layer, factor in first.factors.items():
        assert torch.equal(factor.left, second.factors[layer].left)
        assert torch.equal(factor.right, second.factors[layer].right)


def test_a_step_that_was_finished_is_not_edited_again(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last step and the manifest: the patch is there, and the run only has to be closed."""
    _, whole = made
    config = experiment(folder, tmp_path)
    monkeypatch.setattr(erase_stage, "write_jsonl", _stop)
    with pytest.raises(KeyboardInterrupt):
        make(config, "erase")
    monkeypatch.undo()
    monkeypatch.setattr("unierase_cli.editing.checkpoints.find_values", _stop)
    finished = make(config, "erase")
    assert finished.manifest["summary"] == whole.manifest["summary"]


def _stop(*_arguments: Any, **_keywords: Any) -> None:
    raise KeyboardInterrupt


def test_a_token_is_asked_for_only_where_the_edit_leads_to_one(folder: Path, tmp_path: Path) -> None:
    with_token = experiment(folder, tmp_path, method=MethodConfig(name="unierase", token=True))
    assert set(erase_stage.needs(study_of(with_token), {})) == {"train_token", "moments"}
    straight = replace(with_token, edit=replace(with_token.edit, target="refusal"))
    assert set(erase_stage.needs(study_of(straight), {})) == {"moments"}
    assert erase_stage.reads(study_of(with_token), {}) != erase_stage.reads(study_of(straight), {})


@pytest.mark.parametrize("corpus", ["answers", "auto"])
def test_the_refinement_guards_what_the_unedited_model_said_else_the_benchmarks_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: str
) -> None:
    config = experiment(folder, tmp_path, method=MethodConfig(name="unierase", token=True))
    config = with_settings(replace(config, token=quick_token(tmp_path)), edit__moments__corpus=corpus)
    seen: dict[str, Any] = {}

    def refine(loaded: Any, rows: TokenRows, *_: Any, **given: Any) -> TokenRows:
        seen.update(given, loaded=loaded)
        return rows

    monkeypatch.setattr("unierase_cli.training.token.learning.refine_token", refine)
    make(config, "erase")
    prompts, protect = seen["loaded"].prompts, study_of(config).benchmark.protect
    pairs = [prompts.pair(fact) for fact in protect]
    if corpus == "answers":
        said = [row["ids"] for row in read_jsonl(make(config, "moments").path / "answers.jsonl")]
        pairs = [(prompt, ids) for (prompt, _), ids in zip(pairs, said, strict=True) if ids]
    assert seen["answers"] == pairs
    assert pairs


def test_unierase_takes_the_trained_token_and_refines_it_on_the_edited_model(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, method=MethodConfig(name="unierase", token=True))
    token = quick_token(tmp_path)
    artefact = make(replace(config, token=token), "erase")
    trained = TokenRows.load(Path(artefact.manifest["inputs"]["train_token"]["path"]))
    rows = Patch.load(artefact.path, 0).tokens
    assert rows is not None
    assert rows.ids == trained.ids
    assert not torch.equal(rows.rows_in, trained.rows_in), "refined on the edited model"
    assert rows.rows_out is not None
    assert trained.rows_out is not None
    assert torch.equal(rows.rows_out, trained.rows_out)
    assert not [p.name for p in artefact.path.iterdir() if p.name.startswith(".")]
    plain = make(replace(config, token=replace(token, refine_epochs=0)), "erase")
    kept = Patch.load(plain.path, 0).tokens
    assert kept is not None
    assert torch.equal(kept.rows_in, trained.rows_in)


def test_layers_out_of_range_and_a_missing_corpus_are_one_clear_line(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path)
    with pytest.raises(UserError, match=r"layer 9 is out of range"):
        make(replace(config, edit=replace(config.edit, layers=[2, 9])), "moments")
    lost = replace(config, edit=replace(config.edit, moments=MomentsConfig(corpus=str(tmp_path / "no.jsonl"))))
    with pytest.raises(UserError, match=r"no.jsonl does not exist"):
        moments_stage.fingerprints(study_of(lost), {})


def test_without_anything_to_protect_the_edit_goes_on_with_a_warning(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path, method=MethodConfig(name="memit", token=False))
    config = replace(config, edit=replace(config.edit, moments=MomentsConfig(corpus_weight=0.0, prompt_end_weight=0.0)))
    reporter = SilentReporter()
    Pipeline(config, reporter).make("erase")
    assert any("nothing is protected" in warning for warning in reporter.warnings)


def test_answers_of_an_interrupted_run_are_not_asked_again(
    made: tuple[Experiment, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(made[0], run=replace(made[0].run, outputs=str(tmp_path)))
    monkeypatch.setattr(moments_stage, "AT_A_TIME", 7)
    given: list[int] = []
    by_itself = generation.generate

    def generate(loaded: Any, prompts: Any, **settings: Any) -> Any:
        if len(given) == 2:
            raise KeyboardInterrupt
        given.append(len(prompts))
        return by_itself(loaded, prompts, **settings)

    monkeypatch.setattr(generation, "generate", generate)
    with pytest.raises(KeyboardInterrupt):
        make(config, "moments")
    monkeypatch.setattr(generation, "generate", by_itself)
    moments = make(config, "moments")
    assert given == [7, 7]
    assert len(read_jsonl(moments.path / "answers.jsonl")) == len(study_of(config).benchmark.protect)
    whole = make(made[0], "moments")
    found, wanted = (load_tensors(a.path / "moments.safetensors") for a in (moments, whole))
    for name, values in wanted.items():
        if name.endswith("eigenvalues"):
            torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-8)


def test_held_out_questions_are_not_protected(folder: Path, tmp_path: Path) -> None:
    plain = experiment(folder, tmp_path / "outputs", edit=EditConfig(values=ValueConfig(steps=2)))
    plain = replace(plain, benchmark=replace(plain.benchmark, authors=40))
    config = replace(plain, edit=replace(plain.edit, keep_first=0.9))
    study = study_of(config)
    apart = {fact.id for fact in moments_stage.watched(study)}
    assert len(apart) == moments_stage.WATCHED
    assert {fact.id for fact in moments_stage.preserved(study)} == {fact.id for fact in study.benchmark.protect} - apart
    assert moments_stage.watched(study_of(plain)) == ()
    trains = replace(config, mode=ModeConfig(name="sequential"), method=MethodConfig("npo_gd", "gradient", False, False))
    assert moments_stage.watched(study_of(trains)) == (), "a method without an edit has no alpha"


def test_one_alpha_is_not_chosen_for_steps_that_depend_on_each_other_or_without_questions(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder, tmp_path / "outputs", edit=EditConfig(keep_first=0.9), mode=ModeConfig(name="sequential"))
    with pytest.raises(UserError, match="chooses alpha for one edit"):
        Pipeline(config, SilentReporter()).plan("moments")
    few = replace(config, mode=ModeConfig(), benchmark=replace(config.benchmark, protect_limit=10))
    with pytest.raises(UserError, match="holds out 32 protected questions, and there are 10"):
        Pipeline(few, SilentReporter()).plan("moments")
