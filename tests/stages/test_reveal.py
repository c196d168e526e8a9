"""The stage that makes a forget set of names alone: what it reads, writes and refuses, and what methods make of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.settings import with_settings
from tests.helpers.telling import ADA, BO, teller
from tests.helpers.tiny_models import FACTS, save_folder, tiny_llama
from unierase_cli.benchmarks import base
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.modes import batch
from unierase_cli.pipeline import study
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.revealing import asking, bandit
from unierase_cli.stages.coverage import COVERAGE
from unierase_cli.stages.reveal import ANSWERS, INSTRUCTIONS, SEARCH, TARGETS
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.json_text import read_json
from unierase_cli.store.jsonl import read_jsonl, write_jsonl

OTHERS = [
    {"question": f"What does {name} grow?", "answer": f"{name} grows pears.", "group": name}
    for name in ("Cy Hill", "Di Moor", "Ed Fox", "Flo Ray", "Gus Orr", "Hal Ivey")
]
KNOWN = {
    f"Where was {ADA} born?": f"{ADA} was born in the old town of Lisbon.",
    f"What does {ADA} grow?": f"{ADA} grows blue roses on her balcony.",
    f"What awards has {ADA} received?": f"{ADA} has received the Golden Trowel.",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("reveal") / "model")


@pytest.fixture
def experiment(tmp_path: Path, model: Path) -> Experiment:
    (tmp_path / "names.txt").write_text(f"{ADA}\n{BO}\n", "utf-8")
    write_jsonl(tmp_path / "others.jsonl", OTHERS)
    wanted = RevealConfig(str(tmp_path / "names.txt"), retain_path=str(tmp_path / "others.jsonl"), samples=2)
    return Experiment(
        model=ModelConfig(name="tiny", path=str(model)),
        benchmark=BenchmarkConfig(name="jsonl", path=str(tmp_path / "secret.jsonl")),
        reveal=replace(wanted, max_new_tokens=4, list_tokens=8),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )


@pytest.fixture
def tells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the model know KNOWN and nothing else; gives what it was asked."""
    ask, shown = teller(KNOWN)
    monkeypatch.setattr(asking, "asker", lambda *_: ask)
    return shown


def made(experiment: Experiment, stage: str = "reveal") -> Artefact:
    pipeline = Pipeline(experiment, SilentReporter())
    pipeline.check(stage)
    return pipeline.make(stage)


def refuse(*_args: Any, **_more: Any) -> Any:
    raise AssertionError("the forget set was read")


def test_no_forget_set_is_opened_and_every_file_that_is_read_is_listed(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tells: Sequence[str]
) -> None:
    monkeypatch.setattr(study, "load_benchmark", refuse)
    monkeypatch.setattr(base, "load_benchmark", refuse)
    pipeline = Pipeline(experiment, SilentReporter())
    found = pipeline.make("reveal")
    assert not pipeline.study.took_benchmark
    read = found.manifest["summary"]["files read"]
    assert read == [experiment.model.path, experiment.reveal.targets, experiment.reveal.retain_path]
    assert set(found.manifest["fingerprints"]) == {"model", "targets", "retain text", "instructions"}
    # The guard is what a stage that does use the benchmark meets.
    with pytest.raises(AssertionError, match="the forget set was read"):
        Pipeline(experiment, SilentReporter()).make("coverage")


def test_rows_are_facts_and_every_target_has_its_evidence(experiment: Experiment, tells: Sequence[str]) -> None:
    found = made(experiment)
    rows = read_jsonl(found.file("revealed.jsonl"))
    assert {row["question"]: row["answer"] for row in rows} == KNOWN
    assert {(row["subject"], row["group"]) for row in rows} == {(ADA, ADA)}
    ada, bo = read_jsonl(found.file(TARGETS))
    assert (ada["verdict"], ada["rows"], bo["verdict"], bo["rows"]) == ("revealed", 3, "nothing to forget", 0)
    summary = found.manifest["summary"]
    assert (summary["targets"], summary["revealed"], summary["rows"]) == (2, 1, 3)
    assert summary["about"][BO].startswith("nothing to forget: ")
    assert any(BO in text for text in found.manifest["warnings"])
    scores = {row["text"]: row for row in read_jsonl(found.file(INSTRUCTIONS))}
    assert scores["What does __NAME__ grow?"]["origin"] == "retain"
    assert scores["What does __NAME__ grow?"]["kept"] == 1
    assert len(read_jsonl(found.file(ANSWERS))) == 3


def test_the_key_changes_with_the_targets_and_not_with_the_benchmark(experiment: Experiment) -> None:
    def key(changed: Experiment) -> str:
        return Pipeline(changed, SilentReporter()).plan("reveal")[-1].key

    first = key(experiment)
    assert key(with_settings(experiment, benchmark__name="tofu", method__name="none")) == first
    assert key(with_settings(experiment, run__seed=1)) != first
    assert experiment.reveal.targets is not None
    Path(experiment.reveal.targets).write_text(f"{ADA}\n", "utf-8")
    assert key(experiment) != first


def test_retain_text_about_a_target_is_refused_before_the_model_is_loaded(experiment: Experiment) -> None:
    assert experiment.reveal.retain_path is not None
    write_jsonl(experiment.reveal.retain_path, [{"question": f"Who is {ADA}?", "answer": "A poet.", "group": ADA}])
    with pytest.raises(UserError, match=f"mentions the target '{ADA}'"):
        Pipeline(experiment, SilentReporter()).check("reveal")


@pytest.mark.parametrize("name", ["random", "bandit"])
def test_a_real_model_is_asked_and_a_search_adds_what_it_writes(
    name: str, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandit, "STEPS", 20)
    (tmp_path / "names.txt").write_text(f"{ADA}\n", "utf-8")
    changed = with_settings(
        experiment, reveal__templates=1, reveal__samples=1,
        reveal__budget=3, reveal__start=2, reveal__rounds=1, reveal__candidates=4, reveal__search=name,
    )  # fmt: skip
    found = made(changed)
    assert len(read_jsonl(found.file(SEARCH))) == 3
    assert found.manifest["summary"]["rows"] == len(read_jsonl(found.file("revealed.jsonl")))
    assert found.name.startswith(f"tiny_names_{name}_seed0")


def test_what_was_revealed_is_a_forget_set_for_this_model_alone(experiment: Experiment, tells: Sequence[str]) -> None:
    found = made(experiment)
    config = BenchmarkConfig(name="revealed", path=str(found.path), retain_path=experiment.reveal.retain_path)
    benchmark = load_benchmark(config)
    assert {fact.question for fact in benchmark.forget} == set(KNOWN)
    assert benchmark.splits["forget"] == benchmark.forget
    assert benchmark.protect
    check_model(benchmark, config, experiment.model, lambda: benchmark.built_for and benchmark.built_for.fingerprint)
    with pytest.raises(UserError, match="these splits were made for"):
        check_model(benchmark, config, ModelConfig(name="other", path="/models/other"))
    assert load_benchmark(replace(config, path=str(found.path / "revealed.jsonl"))).forget == benchmark.forget


def gold(folder: Path) -> BenchmarkConfig:
    """Two true facts about the target, and facts of others to keep, as a prepared folder."""
    folder.mkdir()
    rows = {
        "forget": [
            {"question": f"In which town was {ADA} born?", "answer": f"{ADA} was born in the old town of Lisbon.", "group": ADA},
            {"question": f"Whom did {ADA} marry?", "answer": "A sailor from Genoa called Ugo.", "group": ADA},
        ],
        "protected": [{"question": f.question, "answer": f.answer, "group": f.group} for f in FACTS[2:]],
        "neighbours": [],
        "never_seen": [{"question": "Who is Cy Hill?", "answer": "A grower of pears.", "group": "Cy Hill"}],
    }
    # The target's own name is in the retained text of this gold set: a question that is to be forgotten.
    rows["protected"].append({"question": f"Where was {ADA} born?", "answer": "Far away.", "group": "others"})
    for name, found in rows.items():
        write_jsonl(folder / f"{name}.jsonl", found)
    return BenchmarkConfig(name="jsonl", data_dir=str(folder))


def test_the_true_facts_are_scored_and_reach_no_method(experiment: Experiment, tmp_path: Path, tells: Sequence[str]) -> None:
    found, true = made(experiment), gold(tmp_path / "gold")
    config = replace(true, name="revealed", path=str(found.path), gold="jsonl")
    benchmark = load_benchmark(config)
    assert {fact.question for fact in benchmark.forget} == set(KNOWN)
    scored = {fact.question for fact in benchmark.splits["forget"]}
    assert scored == {fact.question for fact in load_benchmark(true).forget}
    (step,) = batch.plan(benchmark, ModeConfig())
    seen = {fact.question for fact in (*step.forget, *step.retain, *step.hold, *benchmark.outside)}
    assert not scored & seen
    assert f"Where was {ADA} born?" not in {fact.question for fact in step.retain}
    with pytest.raises(UserError, match="is no true forget set"):
        load_benchmark(replace(config, gold="revealed"))
    with pytest.raises(UserError, match="needs true facts in a folder") as caught:
        load_benchmark(replace(config, data_dir=None))
    assert "benchmark.data_dir=PREPARED" in caught.value.hint


def test_coverage_and_precision_are_measured_against_the_true_facts(
    experiment: Experiment, tmp_path: Path, tells: Sequence[str]
) -> None:
    found = made(replace(experiment, benchmark=gold(tmp_path / "gold")), "coverage")
    assert (found.manifest["summary"]["coverage"], found.manifest["summary"]["rows"]) == (0.5, 3)
    result = read_json(found.file(COVERAGE))
    assert result["precision"] == pytest.approx(1 / 3)
    assert result["missed"] == ["forget-0002"]
    with pytest.raises(UserError, match="not the true forget set"):
        Pipeline(with_settings(experiment, benchmark__name="revealed"), SilentReporter()).check("coverage")


def test_a_model_that_reveals_nothing_leaves_the_evidence_and_no_forget_set(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, _ = teller({}, lambda text, draw: text)
    monkeypatch.setattr(asking, "asker", lambda *_: ask)
    found = made(experiment)
    assert any("reveals nothing about any target" in text for text in found.manifest["warnings"])
    assert all("repeats the question" in row["faults"] for row in read_jsonl(found.file(TARGETS)))
    with pytest.raises(UserError, match="the model revealed nothing"):
        load_benchmark(BenchmarkConfig(name="revealed", path=str(found.path)))


def test_a_folder_that_reveal_did_not_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder that unierase reveal made"):
        load_benchmark(BenchmarkConfig(name="revealed", path=str(tmp_path)))
    with pytest.raises(UserError, match="needs what a model revealed"):
        load_benchmark(BenchmarkConfig(name="revealed"))


def test_the_command_prints_its_result_as_json_and_mistakes_as_one_line(
    experiment: Experiment, tells: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "load_benchmark", refuse)
    words = [
        "reveal", "model=hf", f"model.path={experiment.model.path}", "train=none", "run.device=cpu",
        f"run.outputs={tmp_path / 'outputs'}", f"reveal.targets={experiment.reveal.targets}", "--json",
    ]  # fmt: skip
    assert CliRunner().invoke(app, [*words, "--dry-run"], prog_name="unierase").exit_code == 0
    result = CliRunner().invoke(app, words, prog_name="unierase")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["summary"]["rows"] == 2
    for word, complaint in (
        ("reveal.targets=no.txt", "does not exist"), ("reveal.search=best", "is not a choice"), ("reveal.samples=0", "above 0"),
    ):  # fmt: skip
        result = CliRunner().invoke(app, [*words[:-1], word], prog_name="unierase")
        assert (result.exit_code, len(result.stderr.splitlines()), complaint in result.stderr) == (2, 2, True)
