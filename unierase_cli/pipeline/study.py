"""A study: an experiment with its benchmark, the steps that its mode plans, and what else the mode decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Benchmark, Step
from unierase_cli.models.fingerprint import local_fingerprint
from unierase_cli.modes.base import load_mode
from unierase_cli.modes.requests import read_tasks
from unierase_cli.store.unlearned import forgotten_in

# Sections that decide what the benchmark is.
OF_THE_BENCHMARK = ("benchmark", "mode", "model")


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment and what it is about. ``load`` gives its benchmark; nothing is loaded before it is asked for."""

    experiment: Experiment
    load: Callable[[], Benchmark]

    @cached_property
    def benchmark(self) -> Benchmark:
        """Raises UserError for data that cannot be worked with, and for a model that the benchmark was not built for."""
        return self.load()

    @property
    def took_benchmark(self) -> bool:
        """Whether somebody has asked for the benchmark, or for the steps that are made of it."""
        return "benchmark" in vars(self)

    @cached_property
    def steps(self) -> list[Step]:
        """What the mode makes of the benchmark."""
        return load_mode(self.experiment.mode.name).plan(self.benchmark, self.experiment.mode)

    @property
    def remarks(self) -> list[str]:
        """What the mode has to say of its steps."""
        tell = self._mode_says("remarks", None)
        return [] if tell is None else tell(self.benchmark, self.experiment.mode)

    @property
    def independent(self) -> bool:
        """Whether every step starts from the original model, so that there is no model after the last one."""
        return self._mode_says("INDEPENDENT", False)

    @property
    def stepwise(self) -> bool:
        """Whether the model is of interest after every step."""
        return self._mode_says("STEPWISE", False)

    @property
    def token_questions(self) -> str:
        """``forget`` or ``outside``: what the token is trained on, ``auto`` left to the mode."""
        wanted = self.experiment.token.questions
        return self._mode_says("TOKEN_QUESTIONS", "forget") if wanted == "auto" else wanted

    @property
    def observed_steps(self) -> list[int]:
        """Indices of the steps after which the model is asked (``eval.steps``)."""
        wanted = self.experiment.eval.steps
        if not self.stepwise or wanted == "none":
            return []
        return list(range(len(self.steps))) if wanted == "all" else [len(self.steps) - 1]

    def apart(self) -> Study:
        """The same for somebody else: nothing is loaded again, and ``took_benchmark`` tells of them alone."""
        return Study(self.experiment, self.load)

    def changed(self, experiment: Experiment) -> Study:
        """The study of a changed experiment, with the same benchmark unless the change concerns it."""
        same = all(getattr(experiment, name) == getattr(self.experiment, name) for name in OF_THE_BENCHMARK)
        return Study(experiment, self.load) if same else study_of(experiment)

    def _mode_says(self, name: str, default: Any) -> Any:
        return getattr(load_mode(self.experiment.mode.name), name, default)


def study_of(experiment: Experiment) -> Study:
    """The study of an experiment; its benchmark is loaded once, by whoever asks first."""
    return Study(experiment, cache(lambda: _benchmark(experiment)))


def _benchmark(experiment: Experiment) -> Benchmark:
    """The experiment's benchmark. A file of requests (``mode.tasks``) says what is forgotten in the place of its split, and the
    model's folder what it forgot before.
    """
    tasks = read_tasks(experiment.mode)
    forget = None if tasks is None else tuple(name for task in tasks for name in task)
    path = experiment.model.path
    forgotten = forgotten_in(Path(path)) if path is not None and Path(path).is_dir() else ()
    benchmark = load_benchmark(experiment.benchmark, forget=forget, forgotten=forgotten)
    check_model(benchmark, experiment.benchmark, experiment.model, lambda: local_fingerprint(path))
    return benchmark
