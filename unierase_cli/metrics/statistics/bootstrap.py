"""Percentile bootstrap intervals, seeded so that repeated calls on the same numbers agree.

They equal those of ``scipy.stats.bootstrap`` with the same generator. The resamples are explicit here because the members of an
aggregate, and two states of a split, share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import stable_hash

RESAMPLES = 1000
LEVEL = 0.95

Array = NDArray[np.float64]


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of per-sample ``values``; None for fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return None
    return percentiles(array[resampled(len(array))].mean(axis=1))


def two_sample_interval(
    first: Sequence[float], second: Sequence[float], statistic: Callable[[Array, Array], Array]
) -> tuple[float, float] | None:
    """95 % interval of ``statistic`` of two independent samples; it maps resamples [R, n] and [R, m] to values [R]."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        return None
    return percentiles(statistic(a[resampled(len(a), "first")], b[resampled(len(b), "second")]))


def resampled(n: int, purpose: str = "mean") -> NDArray[np.int64]:
    """Row indices of the resamples, [R, n]. They depend on n only, so two states of one split share them."""
    return np.random.default_rng(stable_hash("bootstrap", purpose, n)).integers(0, n, size=(RESAMPLES, n))


def percentiles(statistics: Array) -> tuple[float, float]:
    """The middle 95 % of a statistic's values over the resamples."""
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(statistics, [tail, 100 - tail])
    return float(low), float(high)
