"""The experiment's mode as stages see it: its steps, and what depends on how they hang together."""

from __future__ import annotations

from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step
from unierase_cli.modes.base import load_mode
from unierase_cli.pipeline.stage import benchmark_of


def plan_of(experiment: Experiment) -> list[Step]:
    """The steps of the experiment's mode."""
    return load_mode(experiment.mode.name).plan(benchmark_of(experiment), experiment.mode)


def remarks_of(experiment: Experiment) -> list[str]:
    """What the mode has to say of its plan."""
    tell = getattr(load_mode(experiment.mode.name), "remarks", None)
    return [] if tell is None else tell(benchmark_of(experiment), experiment.mode)


def is_independent(experiment: Experiment) -> bool:
    """Whether every step starts from the original model, so that there is no model after the last one."""
    return _says(experiment, "INDEPENDENT", False)


def is_stepwise(experiment: Experiment) -> bool:
    """Whether the model is of interest after every step."""
    return _says(experiment, "STEPWISE", False)


def token_questions(experiment: Experiment) -> str:
    """``forget`` or ``outside``: what the token is trained on, ``auto`` left to the mode."""
    wanted = experiment.token.questions
    return _says(experiment, "TOKEN_QUESTIONS", "forget") if wanted == "auto" else wanted


def observed_steps(experiment: Experiment) -> list[int]:
    """Indices of the steps after which the model is asked (``eval.steps``)."""
    if not is_stepwise(experiment) or experiment.eval.steps == "none":
        return []
    count = len(plan_of(experiment))
    return list(range(count)) if experiment.eval.steps == "all" else [count - 1]


def _says(experiment: Experiment, name: str, default: Any) -> Any:
    return getattr(load_mode(experiment.mode.name), name, default)
