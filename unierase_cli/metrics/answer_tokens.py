"""Values of the true answer's own tokens, the end token left out: what memorisation and membership attacks look at."""

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
    """The mean of ``value`` over the rows' true answers; unavailable if a row has none or none with a token."""
    return lacking(about, observations) or mean_result(about, [value(true_answer(o)) for o in observations])


def lacking(about: About, observations: Sequence[Observation]) -> Measure | None:
    """Unavailable, with the reason, if some row's true answer was not scored, has no token but its end, or no finite loss."""
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
