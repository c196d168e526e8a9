"""In what a mode's evaluation ends, and all that it asks of a model."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.config.schema import Experiment
from unierase_cli.pipeline.asked_rows import step_requests
from unierase_cli.pipeline.mode_plan import is_independent, is_stepwise
from unierase_cli.pipeline.stage import Request

# What `unierase eval` makes: the scores, and beside or instead of them what the mode adds.
SCORE, TRAJECTORY, PRECISE = "score", "trajectory", "precise"


def last_of_evaluation(experiment: Experiment) -> str:
    """The stage in which the mode's evaluation ends."""
    if is_independent(experiment):
        return PRECISE
    return TRAJECTORY if is_stepwise(experiment) and experiment.eval.steps != "none" else SCORE


def asked_by_evaluation(experiment: Experiment) -> Sequence[Request]:
    """What of a model an evaluation asks, all of which counts as asked for with --no-chain."""
    if is_independent(experiment):
        return [Request("observe_facts")]
    stages = ["observe"]
    stages += ["probe"] if experiment.eval.passes else []
    stages += ["general"] if experiment.eval.general.wanted else []
    found = [Request(stage, (("state", state),)) for state in ("base", "edited") for stage in stages]
    if last_of_evaluation(experiment) == TRAJECTORY:
        found += [Request(SCORE), *(r for r in step_requests(experiment).values() if r not in found)]
    return found
