"""The stage train_token through the pipeline: its artefact, what enters its key, and going on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import FACTS, save_folder, tiny_llama
from tests.helpers.token_learning import interrupt_after
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import train_token as stage
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import write_jsonl

STAGES = [
    TokenStage(["chat"], epochs=2, least_steps=0),
    TokenStage(["raw", "chat"], epochs=2, least_steps=0, noise=0.2),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("token")
    write_jsonl(folder / "facts.jsonl", [{"id": f.id, "question": f.question, "answer": f.answer} for f in FACTS])
    (folder / "refusals.txt").write_text("I cannot say.\nNo idea.\n", "utf-8")
    return Experiment(
        model=ModelConfig(path=str(save_folder(tiny_llama(), folder / "model"))),
        benchmark=BenchmarkConfig(name="jsonl", split="all", path=str(folder / "facts.jsonl")),
        token=TokenConfig(targets=str(folder / "refusals.txt"), stages=STAGES),
        run=RunConfig(outputs=str(folder / "outputs"), device="cpu"),
    )


def make(experiment: Experiment) -> Artefact:
    return Pipeline(experiment, SilentReporter()).make("train_token")


def key(experiment: Experiment) -> str:
    (row,) = (row for row in Pipeline(experiment, SilentReporter()).plan("train_token") if row.stage == "train_token")
    return row.key


def with_token(experiment: Experiment, **changes: Any) -> Experiment:
    return replace(experiment, token=replace(experiment.token, **changes))


def test_the_artefact_holds_rows_and_record(base: Experiment) -> None:
    artefact = make(base)
    rows = TokenRows.load(artefact.path)
    assert rows.names == ["<unlearn_0>"]
    assert rows.rows_in.shape == (1, 32)
    assert set(rows.assignment) == {fact.id for fact in FACTS}
    assert set(rows.targets.values()) <= {"I cannot say.", "No idea."}
    assert {"rows.safetensors", "token.json"} <= set(artefact.manifest["files"])
    assert not list(artefact.path.glob(".token*"))
    assert artefact.manifest["summary"]["questions"] == len(FACTS)


def test_a_killed_training_goes_on_and_ends_with_the_same_rows(
    base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = TokenRows.load(make(base).path)
    again = replace(base, run=replace(base.run, outputs=str(tmp_path)))
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        with pytest.raises(KeyboardInterrupt):
            make(again)
    artefact = make(again)
    assert artefact.manifest["resumed"]
    found = TokenRows.load(artefact.path)
    assert torch.equal(found.rows_in, wanted.rows_in)
    assert found.info == wanted.info


def test_the_key_holds_what_shapes_the_rows_and_nothing_else(base: Experiment, tmp_path: Path) -> None:
    same = {
        "refinement": with_token(base, refine_epochs=4, refine_lr=1.0),
        "name": with_token(base, name="other", improbable=-1.0),
        "edit": replace(base, edit=replace(base.edit, lambda_=0.5)),
        "evaluation": replace(base, benchmark=replace(base.benchmark, rows=1)),
    }
    other = {
        "epochs": with_token(base, stages=STAGES[:1]),
        "targets": with_token(base, targets=None),
        "closing": with_token(base, closing="unlearn_end"),
        "seed": replace(base, run=replace(base.run, seed=1)),
        "noisy layers": replace(base, model=replace(base.model, layers=[1])),
        "prompt": replace(base, model=replace(base.model, prompt="plain")),
    }
    assert {name for name, experiment in same.items() if key(experiment) != key(base)} == set()
    assert {name for name, experiment in other.items() if key(experiment) == key(base)} == set()
    quiet = with_token(base, stages=STAGES[:1])
    assert key(replace(quiet, model=replace(base.model, layers=[1]))) == key(quiet), "layers matter for noise alone"


def test_refusals_enter_the_key_by_content(base: Experiment, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_text(Path(base.token.targets or "").read_text("utf-8"), "utf-8")
    assert key(with_token(base, targets=str(copy))) == key(base)
    copy.write_text("Who knows?\n", "utf-8")
    assert key(with_token(base, targets=str(copy))) != key(base)


def test_the_name_that_a_refusal_is_filled_with_enters_the_key(base: Experiment, tmp_path: Path) -> None:
    keys = {}
    for text in ("I cannot say.", "I do not know __NAME__."):
        (tmp_path / "refusals.txt").write_text(text, "utf-8")
        for group in ("Ada", "Bob"):
            rows = [{"id": f.id, "question": f.question, "answer": f.answer, "group": group} for f in FACTS]
            write_jsonl(tmp_path / f"{group}.jsonl", rows)
            named = replace(base, benchmark=replace(base.benchmark, path=str(tmp_path / f"{group}.jsonl")))
            keys[text, group] = key(with_token(named, targets=str(tmp_path / "refusals.txt")))
    assert len(set(keys.values())) == 3, "without a name to fill in, the group does not matter"


def test_questions_outside_the_forget_set_are_asked_for_in_vain_where_there_are_none(base: Experiment) -> None:
    with pytest.raises(UserError, match=r"token\.questions=outside"):
        stage.questions(study_of(with_token(base, questions="outside")))


def test_a_token_trained_outside_is_assigned_to_the_facts_to_forget(base: Experiment, tmp_path: Path) -> None:
    fictional = replace(
        with_token(base, questions="outside", groups=2, stages=STAGES[:1]),
        benchmark=BenchmarkConfig(name="fictional", split="forget05", authors=40, questions=10),
        run=replace(base.run, outputs=str(tmp_path)),
    )
    asked = stage.questions(study_of(fictional))
    forget = study_of(fictional).benchmark.forget
    assert not {f.id for f in asked} & {f.id for f in forget}
    rows = TokenRows.load(make(fictional).path)
    assert {rows.token_of(f.id) for f in forget} == set(rows.ids)


@pytest.mark.parametrize("name", ["default", "reference"])
def test_presets_are_what_their_names_say(name: str) -> None:
    token = compose([f"token={name}"]).token
    assert token.name == name
    if name == "default":
        assert token == TokenConfig(refine_epochs=token.refine_epochs), "the preset and the defaults of the code agree"
        return
    assert [(s.formats, s.epochs, s.lr) for s in token.stages] == [
        (["raw"], 5, 1e-3),
        (["raw", "chat"], 3, 1e-4),
        (["raw", "chat"], 2, 1e-4),
    ]
    assert [s.noise_layers for s in token.stages if s.noise] == ["one"]
    assert all(s.least_steps == 0 for s in token.stages)
    assert (token.closing, token.output_row, token.batch_size, token.settle) == ("unlearn_end", "reference", 16, False)
