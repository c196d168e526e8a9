"""A study: the benchmark and the steps of an experiment, loaded once and handed to all stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.settings import with_settings
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.study import study_of


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the benchmarks that were loaded."""
    names: list[str] = []

    def load(config: Any, **roles: Any) -> Any:
        names.append(config.name)
        return load_benchmark(config, **roles)

    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", load)
    return names


def test_nothing_is_loaded_before_it_is_asked_for_and_then_once(loaded: list[str]) -> None:
    study = study_of(Experiment(mode=ModeConfig("sequential", steps=3)))
    assert (study.stepwise, study.independent, study.token_questions) == (True, False, "outside")
    assert loaded == []
    assert study.observed_steps == [0, 1, 2]
    assert [fact for step in study.steps for fact in step.forget] == list(study.benchmark.forget)
    assert loaded == ["fictional"]


def test_who_takes_the_benchmark_is_known_of_each_apart(loaded: list[str]) -> None:
    study = study_of(Experiment())
    first, second, third = study.apart(), study.apart(), study.apart()
    assert first.benchmark is second.benchmark
    assert len(third.steps) == 1
    assert [one.took_benchmark for one in (study, first, second, third)] == [False, True, True, True]
    assert loaded == ["fictional"]


def test_a_changed_experiment_has_the_same_benchmark_unless_the_change_concerns_it(loaded: list[str]) -> None:
    study = study_of(Experiment())
    for same in ({"run__seed": 1}, {"method__name": "memit"}, {"train__split": "retain"}):
        assert study.changed(with_settings(study.experiment, **same)).benchmark is study.benchmark
    for other in ({"benchmark__seed": 1}, {"model__path": "folder"}, {"mode__steps": 2}):
        assert study.changed(with_settings(study.experiment, **other)).benchmark is not study.benchmark
    assert len(loaded) == 4


def test_all_stages_of_a_plan_share_one_benchmark(loaded: list[str], tmp_path: Any) -> None:
    config = with_settings(Experiment(), model__name="mini", train__name="mini", run__outputs=str(tmp_path))
    sequential = replace(config, mode=ModeConfig("sequential", steps=2))
    stages = {row.stage for row in Pipeline(sequential, SilentReporter()).plan("report")}
    assert {"finetune", "train_token", "moments", "erase", "trajectory", "report"} <= stages
    assert loaded == ["fictional"]
