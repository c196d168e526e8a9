"""The benchmark's files of a finished run: from where it was made, whatever folder it is audited in."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Fact, SilentReporter, UserError
from unierase_cli.pipeline import recorded_files
from unierase_cli.pipeline.recorded_files import own_benchmark, where_made
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import write_jsonl
from unierase_cli.store.unlearned import FORGOTTEN


def rows(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "my.jsonl", [{"question": f"Who is {name}?", "answer": f"{name} is a friend."} for name in names])


@pytest.fixture
def erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """An edit of two facts, made in folder ``made`` beside a folder with a file of the same name."""
    rows(tmp_path / "made", "Ada", "Bo")
    rows(tmp_path / "other", "Cy", "Di")
    monkeypatch.chdir(tmp_path / "made")
    config = Experiment(benchmark=BenchmarkConfig("jsonl", split="all", path="my.jsonl"))
    benchmark = study_of(config).benchmark
    info = {FORGOTTEN: [fact.content_hash for fact in benchmark.forget]}
    monkeypatch.setattr(recorded_files, "steps_in", lambda folder: [0])
    monkeypatch.setattr(recorded_files, "read_record", lambda folder, step: SimpleNamespace(info=info))
    draft = Store("outputs").draft("erase", "mine", "e" * 16)
    told = {"stage": "erase", "key": "e" * 16, "config": asdict(config), "fingerprints": {"benchmark": benchmark.fingerprint}}
    made = draft.complete(told)
    return Artefact(made.path.absolute(), made.manifest)


def facts(erased: Artefact, reporter: SilentReporter) -> tuple[Fact, ...]:
    return study_of(own_benchmark(erased, Experiment.from_json(erased.config), reporter)).benchmark.forget


@pytest.mark.parametrize("folder", ["made", "other", "."])
def test_a_runs_facts_are_its_own_in_every_folder(
    folder: str, erased: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / folder)
    reporter = SilentReporter()
    assert [fact.question for fact in facts(erased, reporter)] == ["Who is Ada?", "Who is Bo?"]
    assert reporter.warnings == []


def test_further_facts_are_told_and_other_ones_refused(
    erased: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "other")
    reporter = SilentReporter()
    rows(tmp_path / "made", "Ada", "Bo", "Ed")
    assert len(facts(erased, reporter)) == 3
    assert reporter.warnings == ["the benchmark has changed since erase/mine@v001 was made"]
    (tmp_path / "made" / "my.jsonl").unlink()
    with pytest.raises(UserError, match=r"benchmark\.path=my\.jsonl does not have the facts that erase/mine@v001 forgot"):
        facts(erased, reporter)


@pytest.mark.parametrize("outputs", ["outputs", "some/outputs", "/elsewhere/outputs"])
def test_a_path_is_seen_from_the_outputs_folder_wherever_that_is(outputs: str, tmp_path: Path) -> None:
    config = Experiment()
    config = replace(config, run=replace(config.run, outputs=outputs))
    root = tmp_path / outputs.lstrip("/").removeprefix("elsewhere/")
    artefact = Artefact(root / "erase" / "mine" / "v001", {"stage": "erase", "key": "e", "config": asdict(config)})
    assert where_made(artefact, "my.jsonl") == str(tmp_path / "my.jsonl")
    assert where_made(artefact, "/data/my.jsonl") == "/data/my.jsonl"
