"""A study: an experiment with its benchmark, the steps that its mode plans, and the mode's other decisions."""

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

# Sections that determine the benchmark.
OF_THE_BENCHMARK = ("benchmark", "mode", "model")


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment and its benchmark, which ``load`` loads on first use."""

    experiment: Experiment
    load: Callable[[], Benchmark]

    @cached_property
    def benchmark(self) -> Benchmark:
        """Raises UserError for unusable data, and for a model that the benchmark was not built for."""
        return self.load()

    @property
    def took_benchmark(self) -> bool:
        """Whether the benchmark, or the steps made from it, has been used."""
        return "benchmark" in vars(self)

    @cached_property
    def steps(self) -> list[Step]:
        """The steps that the mode makes of the benchmark."""
        return load_mode(self.experiment.mode.name).plan(self.benchmark, self.experiment.mode)

    @property
    def remarks(self) -> list[str]:
        """The mode's remarks on its steps."""
        tell = self._mode_says("remarks", None)
        return [] if tell is None else tell(self.benchmark, self.experiment.mode)

    @property
    def independent(self) -> bool:
        """Whether every step starts from the original model, so that no model has all steps."""
        return self._mode_says("INDEPENDENT", False)

    @property
    def stepwise(self) -> bool:
        """Whether the model is evaluated after every step."""
        return self._mode_says("STEPWISE", False)

    @property
    def token_questions(self) -> str:
        """The questions that the token is trained on, ``forget`` or ``outside``; ``auto`` is resolved by the mode."""
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
        """A copy with its own ``took_benchmark``; the benchmark is not loaded again."""
        return Study(self.experiment, self.load)

    def changed(self, experiment: Experiment) -> Study:
        """The study of a changed experiment; the benchmark is shared unless the change affects it."""
        same = all(getattr(experiment, name) == getattr(self.experiment, name) for name in OF_THE_BENCHMARK)
        return Study(experiment, self.load) if same else study_of(experiment)

    def _mode_says(self, name: str, default: Any) -> Any:
        return getattr(load_mode(self.experiment.mode.name), name, default)


def study_of(experiment: Experiment) -> Study:
    """The study of an experiment; its benchmark is loaded once, on first use."""
    return Study(experiment, cache(lambda: _benchmark(experiment)))


def _benchmark(experiment: Experiment) -> Benchmark:
    """The experiment's benchmark.

    A file of requests (``mode.tasks``) replaces the forget split, and the model's folder names the facts that it forgot
    before.
    """
    tasks = read_tasks(experiment.mode)
    forget = None if tasks is None else tuple(name for task in tasks for name in task)
    path = experiment.model.path
    forgotten = forgotten_in(Path(path)) if path is not None and Path(path).is_dir() else ()
    benchmark = load_benchmark(experiment.benchmark, forget=forget, forgotten=forgotten)
    check_model(benchmark, experiment.benchmark, experiment.model, lambda: local_fingerprint(path))
    return benchmark
