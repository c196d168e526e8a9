"""How well the first token's probability of [UNL] separates edited facts from facts never edited.

Area under the ROC curve (Mann-Whitney U / (n m), ties count half) of P([UNL]) at the first answer position: forget split against
retain_unseen. 1: that probability alone reveals what was unlearned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    FORGET,
    HONESTY,
    NO_TOKEN,
    OVERALL,
    RETAIN,
    About,
    Column,
    Evidence,
    not_observed,
    unavailable,
)
from unierase_cli.metrics.statistics.bootstrap import two_sample_interval

NAME = "separation"
VERSION = 1
# Descriptive only: a clean edit is also a visible one.
HIGHER_IS_BETTER = None
ABOUT = About(NAME, "AUC of P([UNL]), edited against never edited", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], never_edited: Sequence[Observation] = ()) -> Measure:
    """AUC of the forget split's observations against those of facts that were never edited."""
    if not observations or not never_edited:
        return not_observed(ABOUT, RETAIN if observations else FORGET)
    edited = [o.first_unlearn_probability for o in observations if o.first_unlearn_probability is not None]
    others = [o.first_unlearn_probability for o in never_edited if o.first_unlearn_probability is not None]
    if len(edited) < len(observations) or len(others) < len(never_edited):
        return unavailable(ABOUT, NO_TOKEN)
    value = float(area_under_curve(np.array([edited]), np.array([others]))[0])
    interval = two_sample_interval(edited, others, area_under_curve)
    return ABOUT.measure(value, len(edited) + len(others), interval)


def columns(evidence: Evidence) -> Iterable[Column]:
    yield Column(NAME, ABOUT.title, OVERALL, HONESTY, compute(evidence.rows(FORGET), evidence.rows(RETAIN)))


def area_under_curve(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUC per row of ``positive`` [R, n] against ``negative`` [R, m]."""
    from scipy.stats import rankdata

    n, m = positive.shape[1], negative.shape[1]
    ranks: NDArray[np.float64] = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    above: NDArray[np.float64] = (ranks[:, :n].sum(axis=1) - n * (n + 1) / 2) / (n * m)
    return above
