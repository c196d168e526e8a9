"""What the metrics that ask a judge have in common: where they appear, and what they say when the judge is absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    DETAIL,
    FORGET,
    About,
    Column,
    Compute,
    Evidence,
    mean_result,
    on_every_split,
    unavailable,
)
from unierase_cli.metrics.judges.kinds import JudgeAbsent


def judged_mean(about: About, values: Callable[[], Sequence[float]]) -> Measure:
    """The mean of what a judge makes of each row; unavailable, with its reason, where the judge is absent."""
    try:
        return mean_result(about, values())
    except JudgeAbsent as absent:
        return unavailable(about, str(absent))


def judged_columns(
    evidence: Evidence, about: About, judge: str, compute: Compute, *, turns: bool = False
) -> list[Column]:
    """A column per observed split. If nobody named the judge one of them says so for all: the reason is the same everywhere."""
    if evidence.judges.wanted(judge):
        return on_every_split(evidence, about, compute, turns=turns, group=DETAIL)
    result = evidence.measure(about, compute, FORGET)
    return [Column(about.name, about.title, FORGET, DETAIL, result)]


def true_sentence(observation: Observation) -> str:
    """The true answer as a sentence, where the row has one beside its short answer (real authors and world facts do)."""
    return observation.long_answer or observation.reference
