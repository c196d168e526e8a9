"""Exact memorisation: share of the true answer's tokens that the model predicts, given the true tokens before them.

Teacher-forced, without the end token (spec: metrics, section 4, EM).
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
    """Mean share of the true answer's tokens that are the argmax at their positions."""
    return mean_over_answers(ABOUT, observations, memorized_share)


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True, group=DETAIL)


def memorized_share(score: AnswerScore) -> float:
    """Share of one answer's tokens that are the argmax; the answer needs at least one token besides the end."""
    return sum(score.is_argmax[: score.length]) / score.length
