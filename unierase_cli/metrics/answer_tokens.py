"""Token values of the true answer without its end token, for memorisation metrics and membership attacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics.base import About, mean_result, unavailable


def true_answer(observation: Observation) -> AnswerScore:
    """The true answer's score."""
    return observation.answers["true"][0]


def mean_over_answers(
    about: About, observations: Sequence[Observation], value: Callable[[AnswerScore], float]
) -> Measure:
    """The mean of ``value`` over the rows' true answers; unavailable if an answer is unscored or has no token."""
    return lacking(about, observations) or mean_result(about, [value(true_answer(o)) for o in observations])


def lacking(about: About, observations: Sequence[Observation]) -> Measure | None:
    """An unavailable measure if a true answer is unscored, has only its end token or a non-finite loss; else None."""
    unscored = sum(not o.answers.get("true") for o in observations)
    if unscored:
        return unavailable(about, f"{unscored} rows have no score of the true answer (only plain answers are scored)")
    empty = sum(true_answer(o).length == 0 for o in observations)
    if empty:
        return unavailable(about, f"{empty} of {len(observations)} rows have an answer without a token")
    wrong = sum(not all(map(math.isfinite, true_answer(o).log_probs)) for o in observations)
    if wrong:
        return unavailable(
            about, f"{wrong} of {len(observations)} rows have no finite value", "look for overflow: try model.dtype=float32"
        )
    return None
