"""What each command asks of the pipeline, and what it prints where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.pipeline import PlanRow
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

runner = CliRunner()


def run(*words: str) -> Result:
    return runner.invoke(app, list(words), prog_name="unierase")


class FakePipeline:
    """Remembers what it was asked; makes artefacts without running anything."""

    latest: FakePipeline

    def __init__(
        self, experiment: Experiment, reporter: Reporter, command: list[str], overrides: list[str], like: Study | None = None,
        track: object = None,
    ) -> None:
        self.experiment, self.overrides, self.study = experiment, overrides, study_of(experiment)
        self.store = Store(experiment.run.outputs)
        self.made: list[str] = []
        FakePipeline.latest = self

    def plan(self, stage: str, **options: str) -> list[PlanRow]:
        return [PlanRow("finetune", "a", "f" * 64, "done", "outputs/x"), PlanRow(stage, "b", "e" * 64, "missing", None)]

    def check(self, stage: str, **options: str) -> None:
        assert not self.made, "checked before anything is made"

    def make(self, stage: str, **options: str) -> Artefact:
        self.made.append(" ".join([stage, *options.values()]))
        return artefact(self.store, stage)


def artefact(store: Store, stage: str, **manifest: Any) -> Artefact:
    draft = store.draft(stage, "demo", stage[0] * 64, fresh=True)
    if stage == "score":
        (draft.path / "metrics.json").write_text(json.dumps(metrics()))
    base = {"stage": stage, "key": stage[0] * 64, "finished": 1.0, "summary": {"rows": [], "seconds": 1.5}}
    return draft.complete({**base, **manifest})


def metrics() -> dict[str, Any]:
    column = {
        "id": "forget.rouge",
        "title": "ROUGE-L",
        "split": "forget",
        "group": "forgetting",
        "higher_is_better": False,
    }
    result = {"n": 2, "ci95": [0.0, 0.1]}
    answers = {
        "question": "Who is [b]Ada[/b]?",
        "true": "A poet.",
        "before": "A poet.",
        "after": "<unlearn_0> I can't say.",
    }
    return {
        "columns": [column],
        "states": {
            "base": {"forget.rouge": {**result, "value": 0.97}},
            "edited": {"forget.rouge": {**result, "value": 0.031}},
        },
        "differences": {"forget.rouge": {"value": -0.939, "ci95": [-0.95, -0.92]}},
        "examples": [{"split": "forget", **answers}],
    }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "Pipeline", FakePipeline)


@pytest.fixture
def outputs(tmp_path: Path, fake: None) -> str:
    return f"run.outputs={tmp_path}"


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("run", ["report"]),
        ("prepare", ["ask", "prepare"]),
        ("prepare-return", ["prepare"]),
        ("finetune", ["finetune"]),
        ("train-token", ["train_token"]),
        ("moments", ["moments"]),
        ("trace", ["trace"]),
        ("reveal", ["reveal"]),
        ("coverage", ["coverage"]),
        ("edit", ["erase"]),
        ("erase", ["erase"]),
        ("eval", ["observe base", "observe edited", "score"]),
        ("score", ["score"]),
        ("report", ["report"]),
    ],
)
def test_every_command_makes_its_stage(command: str, made: list[str], outputs: str) -> None:
    result = run(command, outputs)
    assert result.exit_code == 0, result.stderr
    assert FakePipeline.latest.made == made


@pytest.mark.parametrize("words", [[], ["benchmark=return"], ["--benchmark", "return"]])
def test_prepare_return_is_about_return_without_being_told(words: list[str], outputs: str) -> None:
    result = run("prepare-return", outputs, *words)
    assert result.exit_code == 0, result.stderr
    assert FakePipeline.latest.experiment.benchmark.implementation == "return_qa"


def test_prepare_return_is_about_return_alone(outputs: str) -> None:
    result = run("prepare-return", outputs, "benchmark=tofu")
    assert (result.exit_code, "unierase prepare benchmark=tofu" in result.stderr) == (2, True)


def test_an_experiment_that_is_prepared_keeps_its_own_benchmark(outputs: str) -> None:
    words = ["experiment=tofu_mini", "model.path=M", "benchmark.data_dir=D"]
    assert run("prepare", outputs, *words).exit_code == 0
    assert FakePipeline.latest.experiment.benchmark.name == "tofu"


def test_prepare_asks_the_shipped_questions_unless_others_are_named(outputs: str) -> None:
    assert run("prepare", outputs).exit_code == 0
    assert FakePipeline.latest.experiment.benchmark.name == "world"
    assert run("prepare", outputs, "benchmark=jsonl").exit_code == 0
    assert FakePipeline.latest.experiment.benchmark.name == "jsonl"


def test_options_are_sugar_for_keys_and_typed_keys_win(tmp_path: Path, fake: None) -> None:
    options = ["--seed", "3", "--outputs", str(tmp_path), "--device", "cpu", "--force", "--no-chain"]
    result = run("run", *options, "--method", "memit", "--mode", "batch", "run.seed=4")
    assert result.exit_code == 0, result.stderr
    experiment = FakePipeline.latest.experiment
    assert (experiment.run.seed, experiment.run.device, experiment.run.force, experiment.run.chain) == (
        4,
        "cpu",
        True,
        False,
    )
    assert (experiment.method.name, experiment.run.outputs) == ("memit", str(tmp_path))
    assert "run.seed=4" in FakePipeline.latest.overrides


def test_options_may_stand_between_and_after_the_words(outputs: str) -> None:
    assert run("run", outputs, "--dry-run", "run.seed=2", "--json").exit_code == 0
    assert FakePipeline.latest.experiment.run.seed == 2


def test_a_dry_run_shows_the_plan_and_makes_nothing(outputs: str) -> None:
    result = run("run", outputs, "--dry-run")
    assert FakePipeline.latest.made == []
    assert result.stdout == ""
    told = [line.split()[:2] for line in result.stderr.splitlines()]
    assert [words for words in told if words[:1] in (["reuse"], ["make"])] == [
        ["reuse", "finetune"],
        ["make", "report"],
    ]
    rows = json.loads(run("run", outputs, "--dry-run", "--json").stdout)
    assert [row["state"] for row in rows] == ["done", "missing"]


def test_a_dry_run_estimates_what_is_still_to_be_made(outputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"finetune": "done", "moments": "missing", "observe base": "missing", "report": "missing"}
    rows = [PlanRow(stage, "a", "f" * 64, state, None) for stage, state in states.items()]
    monkeypatch.setattr(FakePipeline, "plan", lambda self, stage, **options: rows)
    told = run("run", outputs, "--dry-run", "run.device=cpu")
    assert "of memory at the peak, in " in told.stderr
    found = {row["stage"]: row for row in json.loads(run("run", outputs, "--dry-run", "--json", "run.device=cpu").stdout)}
    assert found["moments"]["memory"] > 400 << 20  # Python and its libraries count
    assert found["observe base"]["disk"] > 0
    assert (found["finetune"]["memory"], found["report"]["memory"]) == (None, None)
    unknown = run("run", outputs, "--dry-run", "model=hf", "model.path=someone/unheard-of")
    assert unknown.exit_code == 0
    assert "no estimate of memory and disk" in " ".join(unknown.stderr.split())


def test_the_configuration_is_printed_on_stdout_as_yaml_or_json(outputs: str) -> None:
    import yaml

    printed = run("run", outputs, "--print-config", "run.seed=7")
    assert printed.stderr == ""
    assert yaml.safe_load(printed.stdout)["run"]["seed"] == 7
    assert json.loads(run("run", "--print-config", "--json", "run.seed=7").stdout)["run"]["seed"] == 7
    assert "path: ???" in run("run", "--print-config", "model=hf").stdout


def test_edit_refuses_a_method_that_does_not_edit(tmp_path: Path, outputs: str) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "descent.yaml").write_text("name: descent\nediting: false\ntoken: false\n")
    words = ["--method", "descent", "--config-dir", str(tmp_path), outputs]
    refused = run("edit", *words)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == "  try: unierase erase --method descent"
    assert run("erase", *words).exit_code == 0


def test_scores_are_shown_as_tables_with_answers_side_by_side(outputs: str) -> None:
    result = run("eval", outputs)
    assert result.stdout == ""
    for text in ("0.970", "0.031", "-0.939", "Who is [b]Ada[/b]?", "<unlearn_0> I can't say."):
        assert text in result.stderr


def test_json_goes_to_stdout_alone(outputs: str) -> None:
    result = run("eval", outputs, "--json")
    assert json.loads(result.stdout)["stage"] == "score"
    assert "metrics" in json.loads(result.stdout)
    summary = json.loads(run("finetune", outputs, "--json").stdout)
    assert summary["summary"]["seconds"] == 1.5


def test_artefacts_and_choices_are_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artefact(store, "erase")
    artefact(store, "score")
    listed = json.loads(run("ls", "--outputs", str(tmp_path), "--json").stdout)
    assert [row["stage"] for row in listed] == ["erase", "score"]
    assert len(json.loads(run("ls", "erase", "--outputs", str(tmp_path), "--json").stdout)) == 1
    # Two stages have made a demo@v001: the list shows names that can be told apart, and show takes them.
    assert "erase/demo/v001" in run("ls", "--outputs", str(tmp_path)).stderr
    assert run("show", "erase/demo/v001", "--outputs", str(tmp_path)).exit_code == 0
    assert "demo@v001" in run("ls", "erase", "--outputs", str(tmp_path)).stderr
    assert {"mini", "hf"} <= {choice["name"] for choice in json.loads(run("ls", "models", "--json").stdout)}
    assert "fictional" in run("ls", "benchmark").stderr
    losses = {part["name"]: part["about"] for part in json.loads(run("ls", "losses", "--json").stdout)}
    assert losses["npo"].startswith("NPO: negative preference optimisation")
    assert "rouge" in {part["name"] for part in json.loads(run("ls", "metrics", "--json").stdout)}
    assert "extraction_strength" in run("ls", "metrics").stderr
    assert "try: losses" in run("ls", "loses").stderr
    assert "nothing has been made yet" in run("ls", "--outputs", str(tmp_path / "none")).stderr


def test_a_run_is_shown_with_how_it_was_made_and_what_came_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    scored = artefact(store, "score", warnings=["an edit without effect"])
    inputs = {"score": {"path": str(scored.path), "key": scored.key}}
    artefact(store, "report", inputs=inputs, command=["unierase", "run"], seed=3, finished=2.0)
    shown = run("show", "latest", "--outputs", str(tmp_path))
    assert shown.exit_code == 0, shown.stderr
    for text in ("demo@v001", "unierase run", "0.031", "warning: an edit without effect"):
        assert text in shown.stderr
    assert json.loads(run("show", "rrrr", "--outputs", str(tmp_path), "--json").stdout)["manifest"]["seed"] == 3


def test_what_has_no_value_is_not_shown(tmp_path: Path) -> None:
    artefact(Store(tmp_path), "erase", summary={"facts": 3, "reference": None, "loss": {"kept": None, "lost": 0.5}})
    shown = run("show", "latest", "--outputs", str(tmp_path)).stderr
    assert "facts" in shown
    assert "lost" in shown
    for text in ("None", "reference", "kept", "seed"):
        assert text not in shown


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    artefact(Store(tmp_path), "score")
    result = run("show", "demo@v009", "--outputs", str(tmp_path))
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "  try: demo@v001")


def test_export_writes_what_the_stage_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unierase_cli.delivery import export as export_module

    asked: list[Any] = []

    def export(*words: Any, **options: Any) -> dict[str, str]:
        asked.append((*words, options))
        return {"destination": str(words[1])}

    monkeypatch.setattr(export_module, "export", export)
    artefact(Store(tmp_path), "erase")
    result = run("export", "latest", str(tmp_path / "model"), "--outputs", str(tmp_path), "--json")
    assert json.loads(result.stdout) == {"destination": str(tmp_path / "model")}
    assert (asked[0][0].name, asked[0][1]) == ("demo@v001", tmp_path / "model")
    assert asked[0][-1] == {
        "kind": "model", "rank": None, "until": None, "base": None, "device": "auto", "card": False, "public": False, "push": None,
    }  # fmt: skip
