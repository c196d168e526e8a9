"""`unierase rerun`: a finished run made once more from its manifest, and what is said of the difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.helpers.places import ROOT
from tests.helpers.sequences import experiment, make
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import ValueConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import RunConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.rerun import run_again as rerun_module
from unierase_cli.rerun.differences import of_files, of_numbers, of_values
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json
from unierase_cli.store.tensors import save_tensors

pytestmark = pytest.mark.slow


class Fakes:
    """Four stages in a row; ``erase`` writes a tensor, ``score`` a metric. ``drift`` is added to both; ``data``: a fingerprint."""

    def __init__(self) -> None:
        self.drift, self.data, self.runs = 0.0, "rows 1", 0
        self.asked: list[tuple[str, Experiment]] = []

    def stage(self, name: str) -> Any:
        before = {"erase": "train_token", "score": "erase", "report": "score"}

        def run(context: StageContext) -> dict[str, Any]:
            self.runs += 1
            self.asked.append((name, context.experiment))
            context.reporter.note(f"run number {self.runs}")
            write_json(context.directory / "about.json", {"stage": name, "seconds": float(self.runs)})
            if name == "erase":
                save_tensors(context.directory / "patch.safetensors", {"change": torch.full((2, 3), 0.5 + self.drift)})
            if name == "score":
                states = {"edited": {"forget.rouge": {"value": 0.25 + self.drift}, "forget.quality": {"value": None}}}
                write_json(context.directory / "metrics.json", {"states": states})
            return {}

        return SimpleNamespace(
            NAME=name,
            VERSION=1,
            reads=lambda study, o: {"seed": study.experiment.run.seed},
            needs=lambda study, o: {before[name]: Request(before[name])} if name in before else {},
            fingerprints=lambda study, o: {"benchmark": self.data} if name == "train_token" else {},
            run=run,
        )


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    made = Fakes()
    for module in (pipeline_module, rerun_module):
        monkeypatch.setattr(module, "load_stage", made.stage)
    return made


@pytest.fixture
def report(tmp_path: Path, fakes: Fakes) -> Artefact:
    """A run made with a clamp that is not the default one."""
    config = with_settings(Experiment(run=RunConfig(outputs=str(tmp_path))), edit__values__clamp=0.123)
    return Pipeline(config, SilentReporter(), ["unierase", "run"], ["edit.values.clamp=0.123"]).make("report")


def rerun(outputs: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["rerun", *words, "--outputs", str(outputs)], prog_name="unierase")


def outcome(outputs: Path, *words: str) -> dict[str, Any]:
    return json.loads(rerun(outputs, *words, "--json").stdout)


def rewrite(manifest: Path, **changes: Any) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


@pytest.mark.usefixtures("report")
def test_the_whole_chain_is_made_again_in_new_versions_with_the_recorded_configuration(tmp_path: Path, fakes: Fakes) -> None:
    found = rerun(tmp_path, "latest")
    assert found.exit_code == 0, found.stderr
    assert [name for name, _ in fakes.asked] == 2 * ["train_token", "erase", "score", "report"]
    assert {asked.edit.values.clamp for _, asked in fakes.asked} == {0.123}
    assert sorted(path.parent.name for path in tmp_path.glob("*/*/v*/manifest.json")) == 4 * ["v001"] + 4 * ["v002"]
    assert "the same, bit for bit; 2 of 2 metrics are equal to the bit" in found.stderr
    again = Store(tmp_path).list("report")[-1].manifest
    assert again["overrides"] == ["edit.values.clamp=0.123"]
    assert again["inputs"]["score"]["path"].endswith("v002")


@pytest.mark.usefixtures("report")
def test_what_differs_is_said_artefact_by_artefact_and_metric_by_metric(tmp_path: Path, fakes: Fakes) -> None:
    fakes.drift = 0.01
    found = outcome(tmp_path, "latest")
    assert (found["same"], found["promise"]) == (False, "bits")
    assert [(row["stage"], row["same"]) for row in found["artefacts"]] == [
        ("train_token", "bits"), ("erase", "numbers"), ("score", "numbers"), ("report", "bits")
    ]  # fmt: skip
    assert found["artefacts"][1]["files"] == [
        {"file": "patch.safetensors", "numbers": 1, "largest": pytest.approx(0.01, rel=1e-4), "other": ""}
    ]
    assert {row["name"]: row["difference"] for row in found["metrics"]} == {
        "forget.rouge (edited)": pytest.approx(0.01), "forget.quality (edited)": 0.0
    }  # fmt: skip
    told = rerun(tmp_path, "latest", "--from", "report")
    assert (told.exit_code, "the same, bit for bit" in told.stderr) == (0, True)


@pytest.mark.usefixtures("report")
def test_the_exit_code_tells_whether_it_is_the_same(tmp_path: Path, fakes: Fakes) -> None:
    (name,) = (artefact.full_name for artefact in Store(tmp_path).list("report"))
    fakes.drift = 0.01
    assert rerun(tmp_path, name).exit_code == 1
    assert rerun(tmp_path, name, "--tolerance", "0.001").exit_code == 1
    within = rerun(tmp_path, name, "--tolerance", "0.02")
    assert within.exit_code == 0
    assert "the same to 0.02; 1 of 2 metrics are equal to the bit" in within.stderr
    assert rerun(tmp_path, name, "--tolerance", "-1").exit_code == 2


@pytest.mark.usefixtures("report")
def test_a_run_without_metrics_is_judged_by_the_numbers_in_its_files(tmp_path: Path, fakes: Fakes) -> None:
    fakes.drift = 0.01
    erase = str(Store(tmp_path).list("erase")[0].path)
    assert rerun(tmp_path, erase, "--tolerance", "0.02").exit_code == 0
    assert rerun(tmp_path, erase, "--tolerance", "0.001").exit_code == 1


def test_on_another_machine_metrics_are_compared_and_what_is_other_is_named(
    tmp_path: Path, fakes: Fakes, report: Artefact
) -> None:
    packages = {**report.manifest["environment"]["packages"], "torch": "1.0"}
    for path in tmp_path.glob("*/*/v001/manifest.json"):
        machine = {**report.manifest["machine"], "cpu": "a slow one"}
        rewrite(path, machine=machine, environment={**report.manifest["environment"], "packages": packages, "git_commit": "abc"})
    fakes.drift = 1e-7
    found = rerun(tmp_path, report.full_name)
    assert found.exit_code == 0, found.stderr
    assert "the same to 1e-06 (equal bits are not promised: other cpu, other torch)" in found.stderr
    for word in ("a slow one", "1.0", "git_commit", "abc"):
        assert word in found.stderr
    fakes.drift = 1e-5
    assert rerun(tmp_path, report.full_name).exit_code == 1


def test_the_recorded_number_of_threads_is_used(tmp_path: Path, report: Artefact) -> None:
    before = torch.get_num_threads()
    try:
        for path in tmp_path.glob("*/*/v001/manifest.json"):
            rewrite(path, machine={**report.manifest["machine"], "threads": 2})
        assert outcome(tmp_path, "latest")["promise"] == "bits"
        assert Store(tmp_path).list("report")[-1].manifest["machine"]["threads"] == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("report")
def test_other_data_is_told_before_anything_is_made_and_named_afterwards(tmp_path: Path, fakes: Fakes) -> None:
    fakes.data = "rows 2"
    found = rerun(tmp_path, "latest")
    told = "warning: train_token: benchmark has changed since train_token/"
    assert told in found.stderr
    assert found.stderr.index(told) < found.stderr.index("train_token: making")
    assert "train_token: benchmark" in found.stderr[found.stderr.index("Changes") :]


def test_a_setting_that_the_record_does_not_know_is_told(tmp_path: Path, report: Artefact) -> None:
    config = report.manifest["config"]
    config["edit"]["values"].pop("clamp")
    rewrite(report.path / "manifest.json", config=config)
    assert "settings that are newer than the run have their defaults: edit.values.clamp" in rerun(tmp_path, "latest").stderr


@pytest.mark.usefixtures("report")
def test_from_a_stage_on_what_comes_before_is_taken_as_it_is(tmp_path: Path, fakes: Fakes) -> None:
    found = outcome(tmp_path, "latest", "--from", "score")
    assert [name for name, _ in fakes.asked[4:]] == ["score", "report"]
    assert [row["same"] for row in found["artefacts"]] == ["kept", "kept", "bits", "bits"]
    refused = rerun(tmp_path, "latest", "--from", "moments")
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        2, "  try: --from one of: train_token, erase, score, report"
    )  # fmt: skip


def test_a_folder_of_artefacts_that_was_moved_is_repeated_where_it_is(tmp_path: Path, fakes: Fakes, report: Artefact) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for stage in ("train_token", "erase", "score", "report"):
        (tmp_path / stage).rename(moved / stage)
    found = outcome(moved, "latest")
    assert [row["same"] for row in found["artefacts"]] == 4 * ["bits"]
    assert all(Path(row["now"]).is_relative_to(moved) for row in found["artefacts"])


def test_a_name_that_several_stages_share_means_the_report(tmp_path: Path, report: Artefact) -> None:
    (score,) = Store(tmp_path).list("score")
    assert score.name == report.name
    assert outcome(tmp_path, report.name)["run"] == report.full_name
    assert outcome(tmp_path, score.full_name)["run"] == score.full_name


@pytest.mark.usefixtures("report")
def test_a_chain_with_a_gap_is_refused_in_one_line(tmp_path: Path) -> None:
    (erase,) = Store(tmp_path).list("erase")
    (erase.path / "manifest.json").unlink()
    refused = rerun(tmp_path, "latest")
    assert refused.exit_code == 2
    assert f"its erase is gone ({erase.path})" in refused.stderr
    assert refused.stderr.splitlines()[-1] == "  try: unierase run"


def test_differences_are_found_by_kind(tmp_path: Path) -> None:
    def apart(name: str, then: Any, now: Any) -> Any:
        paths = [tmp_path / when / name for when in ("then", "now")]
        for path, content in zip(paths, (then, now), strict=True):
            path.parent.mkdir(exist_ok=True)
            save_tensors(path, content) if name.endswith("tensors") else path.write_text(content)
        return of_files(*paths)

    assert apart("a.jsonl", '{"p": 1.5, "seconds": 3}\n', '{"p": 1.5, "seconds": 9}\n').same
    assert apart("a.jsonl", '{"p": 1.5}\n', '{"p": 1.5}\n{"p": 2}\n').other == '[1]: nothing, now {"p": 2}'
    found = apart("a.json", '{"p": [-20.0, 1, true], "text": "a"}', '{"p": [-20.2, 1, true], "text": "b"}')
    assert (found.values, found.largest, found.other) == (1, pytest.approx(0.01), 'text: "a", now "b"')
    numbers = torch.tensor([1.0, float("nan"), -0.0])
    assert apart("a.safetensors", {"x": numbers}, {"x": numbers.clone()}).same
    found = apart("a.safetensors", {"x": numbers}, {"x": torch.tensor([1.0, float("nan"), 0.0])})
    assert (found.values, found.largest) == (1, 0.0), "minus zero has other bits and is the same number"
    assert apart("a.safetensors", {"x": numbers}, {"x": numbers[:2]}).other == "tensor x: [3] float32, now [2] float32"
    assert apart("a.png", "a", "b").other == "its bytes"
    assert of_files(tmp_path / "then" / "a.png", tmp_path / "none").other.endswith("none is missing")
    assert not of_values({"a": 1}, {"a": True}).same
    assert of_numbers(float("nan"), 1.0) == float("inf")


def test_a_run_made_again_in_another_process_has_the_same_bits(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    config = experiment(save_folder(tiny_llama(), tmp_path / "model"), outputs, ModeConfig())
    edit = replace(config.edit, values=ValueConfig(steps=6, lr=0.5, lr_kind="relative"))
    config = replace(config, edit=edit, token=replace(config.token, refine_epochs=0))
    made = make(config, "report")
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "unierase_cli", "rerun", str(made.path), "--outputs", str(outputs), "--json"]
    done = subprocess.run(command, text=True, capture_output=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    stages = ["observe base", "train_token", "moments", "erase", "observe edited", "score", "report"]
    assert [(row["stage"], row["same"]) for row in found["artefacts"]] == [(stage, "bits") for stage in stages]
    assert (found["promise"], len(found["metrics"]) > 50, found["changes"]) == ("bits", True, [])
