"""Paired tests: is the difference of two runs on the same rows more than chance? (Fisher 1935; McNemar 1947; Holm 1979.)

A sign-flip test asks how often a difference at least as large would appear if a coin decided, for every row, which run got which of
the two values. Tests of rows do not depend on the order of rows; the random test of aggregates needs a fixed order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import stable_hash
from unierase_cli.metrics.statistics.aggregate import Statistic, harmonic, row_blocks
from unierase_cli.metrics.statistics.bootstrap import mean_interval

Array = NDArray[np.float64]
# Up to this many differing rows, all 2^m sign patterns are enumerated. scipy.stats.permutation_test gives the same p-values but
# takes ten times as long.
EXACT_ROWS = 16
# Random sign patterns beyond that; the observed one counts too, so p is never 0.
FLIPS = 9999
BLOCK = 1000
# Relative tolerance for equal sums.
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairedTest:
    """``second`` minus ``first``: the mean difference, its 95 % interval (None for one row) and the two-sided sign-flip p.

    ``exact``: whether all sign patterns were enumerated. ``higher_first``, ``higher_second``, ``ties``: numbers of rows,
    None for an aggregate, because a row has no value of it. ``mcnemar``: exact p for yes-or-no values.
    """

    n: int
    first: float
    second: float
    difference: float
    ci95: tuple[float, float] | None
    p: float
    exact: bool
    higher_first: int | None = None
    higher_second: int | None = None
    ties: int | None = None
    mcnemar: float | None = None


def compare_rows(first: Sequence[float], second: Sequence[float], *, yes_no: bool = False) -> PairedTest:
    """The paired test of two runs' values, row by row. Raises ValueError for no rows or different numbers of rows."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} rows are no pairs")
    differences = b - a
    p, exact = sign_flip(differences)
    return PairedTest(
        n=len(a),
        first=fsum(a) / len(a),
        second=fsum(b) / len(b),
        difference=fsum(differences) / len(a),
        # Sorted, so that the resamples do not depend on the order of rows.
        ci95=mean_interval(np.sort(differences).tolist()),
        p=p,
        exact=exact,
        higher_first=int((differences < 0).sum()),
        higher_second=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        mcnemar=mcnemar(a, b) if yes_no and _all_yes_or_no(a) and _all_yes_or_no(b) else None,
    )


def sign_flip(differences: Sequence[float] | Array) -> tuple[float, bool]:
    """Two-sided p-value of the mean difference under random signs, and whether it is exact.

    Rows without a difference carry no information and are left out; p is 1 if there are no others.
    """
    sizes = np.abs(np.asarray(differences, dtype=np.float64))
    # Sorted magnitudes make the result independent of the order and the signs of the rows.
    sizes = np.sort(sizes[sizes > 0])
    if not len(sizes):
        return 1.0, True
    least = abs(float(np.sum(differences))) - ROUNDING * float(sizes.sum())
    if len(sizes) <= EXACT_ROWS:
        patterns = (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))) & 1
        return float((np.abs((1 - 2 * patterns) @ sizes) >= least).mean()), True
    generator = np.random.default_rng(stable_hash("sign flips", len(sizes)))
    reached = sum(int((np.abs(_signs(generator, count, len(sizes)) @ sizes) >= least).sum()) for count in _blocks())
    return (1 + reached) / (1 + FLIPS), False


def aggregate_sign_flip(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    *,
    statistic: Statistic = harmonic,
    flips: int = FLIPS,
) -> float | None:
    """Two-sided p-value of the difference of two harmonic means; None if members lack rows or the runs' rows differ.

    A row's values swap sides together in all members measured on it. Members by label, rows in one order. ``statistic``: of the
    members' means, instead of the harmonic mean; ``flips``: random sign patterns.
    """
    old, new = row_blocks(first), row_blocks(second)
    if old is None or new is None or {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        return None
    middles = {key: (old[key] + new[key]) / 2 for key in old}
    halves = {key: (new[key] - old[key]) / 2 for key in old}
    means = [np.concatenate([side[key].mean(axis=1) for key in old]) for side in (old, new)]
    least = abs(float(statistic(means[1]) - statistic(means[0]))) - ROUNDING
    generator = np.random.default_rng(stable_hash("aggregate sign flips", *(f"{k} {v.shape}" for k, v in old.items())))
    reached = 0
    for count in _blocks(flips):
        sides: tuple[list[Array], list[Array]] = ([], [])
        for key, half in halves.items():
            moved = half @ _signs(generator, count, half.shape[1]).T / half.shape[1]
            middle = middles[key].mean(axis=1)[:, None]
            sides[0].append(middle - moved)
            sides[1].append(middle + moved)
        flipped = statistic(np.concatenate(sides[1])) - statistic(np.concatenate(sides[0]))
        reached += int((np.abs(flipped) >= least).sum())
    return (1 + reached) / (1 + flips)


def mcnemar(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float:
    """Exact two-sided p-value that yes became no as often as no became yes; 1 if no row changed."""
    from scipy.stats import binomtest

    lost = int(np.sum(np.asarray(first) > np.asarray(second)))
    gained = int(np.sum(np.asarray(second) > np.asarray(first)))
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, in the order of the input."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _all_yes_or_no(values: Array) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _signs(generator: np.random.Generator, count: int, rows: int) -> Array:
    return (2 * generator.integers(0, 2, size=(count, rows), dtype=np.int8) - 1).astype(np.float64)


def _blocks(flips: int = FLIPS) -> list[int]:
    """Sizes of blocks of flips that fit into memory."""
    return [min(BLOCK, flips - start) for start in range(0, flips, BLOCK)]
