"""The last stage of a mode's evaluation, and all requests that it makes of a model."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.pipeline.asked_rows import step_requests
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import Study

# What `unierase eval` makes: the scores, or the mode's own results in addition or instead.
SCORE, TRAJECTORY, PRECISE = "score", "trajectory", "precise"


def last_of_evaluation(study: Study) -> str:
    """The last stage of the mode's evaluation."""
    if study.independent:
        return PRECISE
    return TRAJECTORY if study.stepwise and study.experiment.eval.steps != "none" else SCORE


def asked_by_evaluation(study: Study) -> Sequence[Request]:
    """What an evaluation asks of a model; all of it counts as requested with --no-chain."""
    if study.independent:
        return [Request("observe_facts")]
    stages = ["observe"]
    stages += ["probe"] if study.experiment.eval.passes else []
    stages += ["general"] if study.experiment.eval.general.wanted else []
    found = [Request(stage, (("state", state),)) for state in ("base", "edited") for stage in stages]
    if last_of_evaluation(study) == TRAJECTORY:
        found += [Request(SCORE), *(r for r in step_requests(study).values() if r not in found)]
    return found
