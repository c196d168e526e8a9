"""Exact memorisation: share of the true answer's tokens that the model would say next, given the true ones before them.

Teacher-forced, the end token left out (spec: metrics, section 4, EM).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics.answer_tokens import mean_over_answers
from unierase_cli.metrics.base import DETAIL, About, Column, Evidence, on_every_split

NAME = "exact_memorization"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "exact memorisation", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean share of the true answer's tokens that are the most probable ones at their places."""
    return mean_over_answers(ABOUT, observations, memorized_share)


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True, group=DETAIL)


def memorized_share(score: AnswerScore) -> float:
    """Share of one answer's tokens that are argmax; it needs at least one token beside the end."""
    return sum(score.is_argmax[: score.length]) / score.length
