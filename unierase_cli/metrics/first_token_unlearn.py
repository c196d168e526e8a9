"""Share of answers that start with an unlearning token, under plain greedy decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    NO_TOKEN,
    About,
    Column,
    Evidence,
    mean_result,
    on_every_split,
    unavailable,
    when_paraphrased,
)

NAME = "first_token_unlearn"
VERSION = 2
# On rows that should be kept; on the forget split every answer should.
HIGHER_IS_BETTER = False
# Each row is yes (1) or no (0).
YES_NO = True
ABOUT = About(NAME, "first token is [UNL]", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Share of answers whose first token is an unlearning token; unavailable for a model without one."""
    if any(o.first_unlearn_probability is None for o in observations):
        return unavailable(ABOUT, NO_TOKEN)
    return mean_result(ABOUT, [float(o.first_is_unlearn) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    yield from on_every_split(evidence, ABOUT, compute, turns=True)
    yield from when_paraphrased(evidence, ABOUT, compute)
