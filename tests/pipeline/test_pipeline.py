"""Stages chained into artefacts: keys, reuse, forcing, refusing to chain, going on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.settings import with_settings
from tests.helpers.stand_ins import stand_in
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.passed_over import flat, passed_over
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.recorder import Recorder, forget_peaks, peak_memory
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.store.artefacts import Store


class Fakes:
    """Two stages: ``train_token`` reads the seed, ``erase`` needs it and reads the clamp. Counts runs; can be interrupted."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.resumed: list[bool] = []
        self.interrupt = False

    def stage(self, name: str) -> Any:
        def run(context: StageContext) -> dict[str, Any]:
            self.resumed.append(context.resuming)
            (context.directory / "payload.txt").write_text(name)
            if self.interrupt:
                raise KeyboardInterrupt
            with context.reporter.phase("work"):
                context.reporter.warn("a warning")
            self.runs.append(name)
            return {"made": name}

        if name == "train_token":
            return stand_in(name, run)
        return stand_in(name, run, lambda experiment: {"clamp": experiment.edit.values.clamp})


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    made = Fakes()
    monkeypatch.setattr(pipeline_module, "load_stage", made.stage)
    return made


def experiment(tmp_path: Path, **run: Any) -> Experiment:
    return Experiment(run=RunConfig(outputs=str(tmp_path), **run))


def pipeline(config: Experiment) -> Pipeline:
    return Pipeline(config, SilentReporter(), ["unierase", "erase"], ["run.seed=0"])


def test_a_stage_makes_its_inputs_first_and_is_reused_afterwards(tmp_path: Path, fakes: Fakes) -> None:
    first = pipeline(experiment(tmp_path)).make("erase")
    second = pipeline(experiment(tmp_path)).make("erase")
    assert fakes.runs == ["train_token", "erase"]
    assert first.path == second.path


def test_only_what_depends_on_a_changed_key_is_made_again(tmp_path: Path, fakes: Fakes) -> None:
    config = experiment(tmp_path)
    pipeline(config).make("erase")
    pipeline(with_settings(config, edit__values__clamp=0.25)).make("erase")
    assert fakes.runs == ["train_token", "erase", "erase"]


def test_force_makes_a_new_version_of_the_wanted_stage_only(tmp_path: Path, fakes: Fakes) -> None:
    pipeline(experiment(tmp_path)).make("erase")
    forced = pipeline(experiment(tmp_path, force=True)).make("erase")
    assert fakes.runs == ["train_token", "erase", "erase"]
    assert forced.path.name == "v002"


def test_an_artefact_that_was_taken_is_used_whatever_its_key_would_be(tmp_path: Path, fakes: Fakes) -> None:
    first = pipeline(experiment(tmp_path)).make("train_token")
    other = pipeline(experiment(tmp_path, seed=7))
    other.take(Request("train_token"), first)
    assert [row.state for row in other.plan("erase")] == ["done", "missing"]
    made = other.make("erase")
    assert made.manifest["inputs"]["token"]["path"] == str(first.path)
    assert fakes.runs == ["train_token", "erase"]


def test_without_chaining_a_missing_input_is_refused_by_name(tmp_path: Path, fakes: Fakes) -> None:
    with pytest.raises(UserError, match="train_token has not been made yet.*unierase train-token"):
        pipeline(experiment(tmp_path, chain=False)).make("erase")
    assert fakes.runs == []


def test_the_plan_tells_done_missing_and_interrupted(tmp_path: Path, fakes: Fakes) -> None:
    pipeline(experiment(tmp_path)).make("train_token")
    fakes.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        pipeline(experiment(tmp_path)).make("erase")
    rows = pipeline(experiment(tmp_path)).plan("erase")
    assert [(row.stage, row.state) for row in rows] == [("train_token", "done"), ("erase", "interrupted")]
    rows = pipeline(experiment(tmp_path, seed=1)).plan("erase")
    assert [row.state for row in rows] == ["missing", "missing"]


def test_an_interrupted_stage_goes_on_in_its_folder(tmp_path: Path, fakes: Fakes) -> None:
    fakes.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        pipeline(experiment(tmp_path)).make("train_token")
    fakes.interrupt = False
    made = pipeline(experiment(tmp_path)).make("train_token")
    assert fakes.resumed == [False, True]
    assert made.path.name == "v001"


def test_the_manifest_tells_how_the_artefact_was_made(tmp_path: Path, fakes: Fakes) -> None:
    made = pipeline(experiment(tmp_path)).make("erase")
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["command"] == ["unierase", "erase"]
    assert manifest["overrides"] == ["run.seed=0"]
    assert manifest["summary"] == {"made": "erase"}
    assert manifest["warnings"] == ["a warning"]
    assert min(manifest["phases"]["work"][name] for name in ("seconds", "cpu_seconds")) >= 0
    assert manifest["inputs"]["token"]["key"]
    assert manifest["files"]["payload.txt"]["size"] == len("erase")
    assert Experiment.from_json(manifest["config"]) == experiment(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str) -> Any:
        stage = fakes.stage(name)

        def run(context: StageContext) -> dict[str, Any]:
            raise OSError(28, "No space left on device")

        stage.run = run
        return stage

    monkeypatch.setattr(pipeline_module, "load_stage", full)
    with pytest.raises(UserError, match="disk is full"):
        pipeline(experiment(tmp_path)).make("train_token")


def test_a_mistake_leaves_no_empty_version_behind(
    tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(name: str) -> Any:
        stage = fakes.stage(name)

        def run(context: StageContext) -> dict[str, Any]:
            context.reporter.note("so far so good")
            raise UserError("that cannot be")

        stage.run = run
        return stage

    monkeypatch.setattr(pipeline_module, "load_stage", refusing)
    with pytest.raises(UserError, match="that cannot be"):
        pipeline(experiment(tmp_path)).make("train_token")
    assert not list(tmp_path.rglob("v0*"))


def test_an_interrupted_run_with_other_settings_is_left_alone_and_the_differences_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left = store.draft("erase", "name", "a" * 64, settings={"unlearn.lr": 1e-4, "seed": 0})
    assert list(passed_over(store, "erase", "name", {"unlearn.lr": 1e-4, "seed": 0})) == []
    (told,) = passed_over(store, "erase", "name", {"unlearn.lr": 3e-4, "seed": 0})
    assert str(left.path) in told
    assert "unlearn.lr was 0.0001, is 0.0003" in told
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}


def test_every_phase_has_the_peak_of_what_is_done_inside(tmp_path: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system cannot start counting again")
    recorder = Recorder(SilentReporter(), tmp_path / "log.txt")
    with recorder.phase("outer"):
        with recorder.phase("large"):
            block = bytearray(300 << 20)
            del block
        with recorder.phase("small"):
            pass
    with recorder.phase("after"):
        pass
    with recorder.phase("large"):  # once more, with next to nothing
        pass
    peaks = {name: found["peak_memory_mib"] for name, found in recorder.phases.items()}
    assert peaks["large"] > peaks["small"] + 250
    assert peaks["outer"] == peaks["large"] == recorder.peaks()["peak_memory_mib"]
    assert peaks["after"] < peaks["large"] - 250


def test_a_stage_is_not_charged_for_the_memory_of_the_one_before_it() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system cannot start counting again")
    block = bytearray(400 << 20)
    assert peak_memory() > 400
    before = peak_memory()
    del block
    forget_peaks()
    assert peak_memory() < before - 300
