"""Spearman's rank correlation with a permutation p-value: no assumption about the distribution, ties allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import stable_hash

# Up to 7 pairs all orders are enumerated (7! = 5040); beyond that, this many random ones plus the observed one.
SHUFFLES = 9999
BLOCK = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """``rho`` in [-1, 1], the two-sided ``p`` of no association, ``n`` pairs; ``exact``: all orders were enumerated."""

    rho: float
    p: float
    n: int
    exact: bool


def spearman(first: Sequence[float], second: Sequence[float]) -> Correlation | str:
    """The correlation of two lists of equal length, or the reason why there is none."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs")
    if len(first) < 3:
        return f"{len(first)} pairs are too few for a rank correlation"
    # Sorted pairs make the random shuffles independent of the order of the input.
    a, b = (_ranks(values) for values in zip(*sorted(zip(first, second, strict=True)), strict=True))
    if not a.any() or not b.any():
        return "one side has the same value everywhere"
    from scipy.stats import permutation_test

    found = permutation_test(
        (b,),
        lambda orders, axis: np.abs((orders * a).sum(axis=axis)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=SHUFFLES,
        batch=BLOCK,
        random_state=np.random.default_rng(stable_hash("rank correlation", len(a))),
    )
    rho = float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
    return Correlation(rho, float(found.pvalue), len(a), exact=factorial(len(a)) <= SHUFFLES)


def _ranks(values: Sequence[float]) -> Array:
    """Centred ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(values, dtype=np.float64))
    return np.asarray(ranks - ranks.mean(), dtype=np.float64)
