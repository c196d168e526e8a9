"""The stage trace through the pipeline: what it writes, what enters its key, resuming, and what it refuses."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, save_folder, tiny_llama
from unierase_cli.cli.outcome import outcome, show_outcome
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig
from unierase_cli.config.sections.trace import TraceConfig
from unierase_cli.contracts import Benchmark, Fact, SilentReporter, UserError
from unierase_cli.editing.tracing import effects
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages import trace as trace_stage
from unierase_cli.stages.shared.edited_layers import edited_layers
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.jsonl import read_jsonl

FOUND = ("trace.json", "trace.png", "facts.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


def experiment(folder: Path, outputs: Path) -> Experiment:
    return Experiment(
        model=ModelConfig(path=str(folder)),
        benchmark=BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5),
        trace=TraceConfig(facts=6, floor=0.0, samples=2, class_tokens=1),
        run=RunConfig(outputs=str(outputs), device="cpu"),
    )


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Artefact]:
    config = experiment(folder, tmp_path_factory.mktemp("outputs"))
    return config, Pipeline(config, SilentReporter()).make("trace")


def context(config: Experiment, facts: tuple[Fact, ...], directory: Path) -> StageContext:
    """The stage by itself, about these facts."""
    study = Study(config, lambda: Benchmark("own", facts, (), {"forget": facts}, "print"))
    return StageContext(study, directory, {}, SilentReporter())


def test_the_artefact_has_the_effects_of_each_fact_their_means_and_a_picture(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    assert all(artefact.has(name) for name in FOUND)
    rows = read_jsonl(artefact.file("facts.jsonl"))
    found = json.loads(artefact.file("trace.json").read_text())
    assert len(rows) == found["facts"] == artefact.summary["facts"] == 6
    assert found["asked"] == found["answered"] == 10
    assert found["default"] == [1, 2]
    assert found["window"] == 2
    for curve in found["curves"]:
        kind, position, measure = curve["kind"], curve["position"], curve["measure"]
        own = [row["effects"][kind][position][measure] for row in rows if position in row["effects"][kind]]
        assert curve["facts"] == len(own)
        assert curve["mean"] == pytest.approx([sum(values) / len(own) for values in zip(*own, strict=True)])
        assert all(low <= mean <= high for low, mean, high in zip(curve["low"], curve["mean"], curve["high"], strict=True))
    assert {(c["kind"], c["measure"]) for c in found["curves"]} == {
        (kind, measure) for kind in config.trace.kinds for measure in ("probability", "log_prob")
    }
    best = found["windows"][0]
    curve = next(c for c in found["curves"] if (c["kind"], c["position"], c["measure"]) == ("mlp", best["position"], "probability"))
    assert best["blocks"] in ([0, 1], [1, 2])
    blocks = [window["blocks"] for window in found["windows"] if window["key_position"] == "subject_last"]
    assert blocks in ([[0, 1], [1, 2]], [[1, 2]]), "block 0's MLP is left out in a second line"
    assert curve["mean"][best["centre"]] == max(curve["mean"][1:3])


def test_the_command_shows_tables_and_conclusions_and_gives_all_numbers_as_json(made: tuple[Experiment, Artefact]) -> None:
    config, artefact = made
    screen = io.StringIO()
    show_outcome(Console(file=screen, width=160), artefact, Store(config.run.outputs))
    text = screen.getvalue()
    assert "Restored: MLP outputs in a window of 2 blocks" in text
    assert "edit.layers=" in text
    assert "the default rule takes [1,2]" in text
    found = outcome(artefact, Store(config.run.outputs))
    assert json.loads(json.dumps(found))["trace"]["conclusions"] == found["summary"]["conclusions"]


def test_what_changes_an_effect_enters_the_key_and_the_size_of_a_batch_does_not(made: tuple[Experiment, Artefact]) -> None:
    config, _ = made

    def state(**settings: Any) -> str:
        return Pipeline(with_settings(config, **settings), SilentReporter()).plan("trace")[-1].state

    assert state() == state(trace__batch_tokens=64) == state(edit__layers=[0]) == "done"
    for changed in ({"run__seed": 1}, {"trace__samples": 3}, {"trace__lead": "Answer:"}, {"model__prompt": "plain"}):
        assert state(**changed) == "missing"


def test_an_interrupted_trace_resumes_with_the_facts_that_are_missing(
    made: tuple[Experiment, Artefact], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = made
    config = experiment(folder, tmp_path)
    traced: list[int] = []
    original = effects.trace

    def interrupted(architecture: Any, requests: Any, *arguments: Any, **keywords: Any) -> Any:
        if traced:
            raise KeyboardInterrupt
        traced.append(len(requests))
        return original(architecture, requests, *arguments, **keywords)

    monkeypatch.setattr(effects, "trace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(config, SilentReporter()).make("trace")
    monkeypatch.undo()
    resumed = Pipeline(config, SilentReporter()).make("trace")
    assert traced == [trace_stage.CHUNK]
    assert resumed.manifest["resumed"] is True
    assert resumed.file("facts.jsonl").read_bytes() == whole.file("facts.jsonl").read_bytes()


def test_facts_that_the_model_does_not_answer_are_counted_and_left_out(folder: Path, tmp_path: Path) -> None:
    config = with_settings(experiment(folder, tmp_path), trace__facts=0)
    trace_stage.run(context(config, tuple(FACTS), tmp_path))
    probabilities = sorted(row["clean"]["probability"] for row in read_jsonl(tmp_path / "facts.jsonl"))
    assert len(probabilities) == len(FACTS)
    between = tmp_path / "between"
    between.mkdir()
    config = with_settings(config, trace__floor=(probabilities[3] + probabilities[4]) / 2)
    summary = trace_stage.run(context(config, (*FACTS, replace(FACTS[0], id="nobody", subject="Nobody")), between))
    assert summary["answered"] == summary["facts"] == len(FACTS) - 4
    assert summary["skipped"] == {"with a subject that is not in the question": 1, "the model does not answer them": 4}


def test_blocks_are_proposed_for_the_last_prompt_token_unless_it_is_the_leads(folder: Path, tmp_path: Path) -> None:
    for lead, positions in (("", {"subject_last", "prompt_last"}), ("Answer:", {"subject_last"})):
        directory = tmp_path / (lead or "none")
        directory.mkdir()
        config = with_settings(experiment(folder, tmp_path), trace__lead=lead, trace__facts=2, trace__kinds=["mlp"])
        told = " ".join(trace_stage.run(context(config, tuple(FACTS), directory))["conclusions"])
        assert {name for name in ("subject_last", "prompt_last") if f"key_position={name}" in told} == positions


def test_a_model_that_answers_nothing_is_refused_with_what_to_try(folder: Path, tmp_path: Path) -> None:
    config = with_settings(experiment(folder, tmp_path), trace__floor=0.9)
    told = r"answers none of 8 facts: the highest probability of an answer's first token is 0\.\d+ \(trace.floor=0.9\)"
    with pytest.raises(UserError, match=rf"{told} - type trace.lead='Answer:'"):
        trace_stage.run(context(config, tuple(FACTS), tmp_path))


def test_facts_without_any_subject_are_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    facts = tuple(replace(fact, subject="Nobody") for fact in FACTS)
    told = "none of the 8 facts .* 8 with a subject that is not in the question"
    with pytest.raises(UserError, match=f"{told} - give each fact a `subject`"):
        trace_stage.run(context(experiment(folder, tmp_path), facts, tmp_path))


def test_a_window_larger_than_the_model_is_refused_before_anything_is_asked(folder: Path, tmp_path: Path) -> None:
    config = with_settings(experiment(folder, tmp_path), trace__window=5)
    with pytest.raises(UserError, match="trace.window=5 does not fit: the model has 4 blocks"):
        trace_stage.run(context(config, tuple(FACTS), tmp_path))
    with pytest.raises(UserError, match="trace.window=5 does not fit: the model has 4 blocks"):
        Pipeline(config, SilentReporter()).check("trace")
    assert list(tmp_path.iterdir()) == []


def test_traced_layers_are_the_window_of_the_trace_for_the_token_that_the_edit_writes_at(
    made: tuple[Experiment, Artefact], tmp_path: Path
) -> None:
    config, artefact = made
    found = json.loads(artefact.file("trace.json").read_text())["windows"]
    for position in ("subject_last", "prompt_last"):
        chosen = with_settings(config, edit__layers="traced", edit__key_position=position)
        windows = [window["blocks"] for window in found if window["key_position"] == position]
        told = SilentReporter()
        here = StageContext(
            Study(chosen, lambda: pytest.fail("the benchmark was loaded")), tmp_path, {"trace": artefact}, told
        )
        assert edited_layers(here, tiny_llama()) == windows[-1]
        assert f"blocks {windows[-1]}" in told.notes[0]


def test_an_edit_of_traced_layers_makes_the_trace_that_it_needs_and_depends_on_it(
    made: tuple[Experiment, Artefact],
) -> None:
    config, artefact = made
    config = with_settings(config, method=MethodConfig(name="alphaedit", token=False), edit__layers="traced")

    def keys(**settings: Any) -> dict[str, str]:
        return {
            row.stage: row.key for row in Pipeline(with_settings(config, **settings), SilentReporter()).plan("erase")
        }

    before, after = keys(), keys(trace__samples=3)
    assert next(iter(before)) == "trace"
    assert before["trace"] == artefact.key
    assert all(before[stage] != after[stage] for stage in ("trace", "moments", "erase"))
    assert "trace" not in keys(edit__layers=None)
    moments = Pipeline(config, SilentReporter()).make("moments")
    found = json.loads(artefact.file("trace.json").read_text())["windows"]
    window = [window["blocks"] for window in found if window["key_position"] == "subject_last"][-1]
    assert [int(layer) for layer in json.loads(moments.file("moments.json").read_text())["layers"]] == window


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trace__kinds": ["residual"]}, "effects of MLPs, which trace.kinds leaves out"),
        (
            {"trace__lead": "Answer:", "edit__key_position": "prompt_last"},
            "the prompt's last token is not measured",
        ),
    ],
)
def test_a_trace_that_names_no_blocks_is_refused_before_it_is_made(
    made: tuple[Experiment, Artefact], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        Pipeline(with_settings(made[0], edit__layers="traced", **settings), SilentReporter()).plan("moments")
    assert caught.value.hint


@pytest.mark.parametrize("layers", ["measured", 4, ["a"], [True], {"a": 1}])
def test_layers_are_blocks_or_traced(layers: Any) -> None:
    with pytest.raises(UserError, match="neither a list of blocks nor traced"):
        EditConfig(layers=layers)
