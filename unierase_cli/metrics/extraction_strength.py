"""Extraction strength: how little of the true answer must be given for greedy decoding to produce the rest.

1 - k / n, where n is the number of answer tokens (without the end token) and k the length of the shortest prefix after which every
token is the argmax, teacher-forced (Carlini et al. 2021; spec: metrics, section 4). 1: the question alone brings back the whole
answer. 0: not even the last token follows from all others.

"ES" means two things in this field: open-unlearning's extraction strength (this metric), and closer-look's and UniErase's
entailment score (``entailment_score``). They are unrelated, so neither is called ES here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics.answer_tokens import mean_over_answers
from unierase_cli.metrics.base import DETAIL, FORGET, About, Column, Evidence, column_of, on_every_split

NAME = "extraction_strength"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "extraction strength", VERSION, HIGHER_IS_BETTER)
OPEN_UNLEARNING = About(
    "extraction_strength_open_unlearning", "extraction strength (open-unlearning)", VERSION, HIGHER_IS_BETTER
)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean extraction strength of the true answers."""
    return mean_over_answers(ABOUT, observations, extraction_strength)


def compute_open_unlearning(observations: Sequence[Observation]) -> Measure:
    """Mean of open-unlearning's variant, which is never below 1 / n."""
    return mean_over_answers(OPEN_UNLEARNING, observations, extraction_strength_open_unlearning)


def columns(evidence: Evidence) -> Iterable[Column]:
    yield from on_every_split(evidence, ABOUT, compute, turns=True, group=DETAIL)
    yield column_of(evidence, OPEN_UNLEARNING, compute_open_unlearning, FORGET, turns=True, group=DETAIL)


def extraction_strength(score: AnswerScore) -> float:
    """1 - k / n of one answer, which needs at least one token besides the end."""
    given = score.length
    while given and score.is_argmax[given - 1]:
        given -= 1
    return 1 - given / score.length


def extraction_strength_open_unlearning(score: AnswerScore) -> float:
    """1 - k / n with k at most n - 1: an answer whose last token is not predicted scores 1 / n instead of 0."""
    return max(extraction_strength(score), 1 / score.length)
