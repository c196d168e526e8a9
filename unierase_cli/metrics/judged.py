"""Shared code of metrics that ask a judge: their columns, and their result when the judge is absent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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

LABELS = frozenset({"entailment", "neutral", "contradiction"})


def judged_mean(about: About, values: Callable[[], Sequence[float]]) -> Measure:
    """The mean of a judge's values; unavailable, with the reason, if the judge is absent."""
    try:
        return mean_result(about, values())
    except JudgeAbsent as absent:
        return unavailable(about, str(absent))


def unknown_label(about: About, labels: Collection[str]) -> Measure | None:
    """Unavailable if an entailment classifier's labels are not those of entailment, such as ``label_0``; None if they are."""
    if not (strange := set(labels) - LABELS):
        return None
    return unavailable(about, f"the classifier answers {sorted(strange)[0]!r}", "name another one with eval.nli=...")


def judged_columns(
    evidence: Evidence, about: About, judge: str, compute: Compute, *, turns: bool = False
) -> list[Column]:
    """One column per observed split; if no judge is configured, a single column that says so."""
    if evidence.judges.wanted(judge):
        return on_every_split(evidence, about, compute, turns=turns, group=DETAIL)
    result = evidence.measure(about, compute, FORGET)
    return [Column(about.name, about.title, FORGET, DETAIL, result)]


def true_sentence(observation: Observation) -> str:
    """The true answer as a full sentence if the row has one (real authors and world facts), else the answer."""
    return observation.long_answer or observation.reference
