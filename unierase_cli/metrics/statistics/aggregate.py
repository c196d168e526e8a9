"""Aggregates of other metrics, never averaged over fewer members than defined.

Intervals resample rows within each split. Values of one row (its ROUGE, probability, truth ratio) belong together, so the members
of a split share every resample; splits are resampled independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import Measure
from unierase_cli.metrics.statistics.bootstrap import percentiles, resampled

Array = NDArray[np.float64]
Members = Sequence[tuple[str, Measure]]
# Means of the members, in the order of ``row_blocks``, [members, ...] -> values [...].
Statistic = Callable[[Array], Array]


def harmonic_mean(name: str, members: Members, version: int) -> Measure:
    """Harmonic mean of (label, result) pairs; any 0 makes it 0. Unavailable, with the reason, if a member is.

    Labels start with the split, as in ``real_authors.rouge``. ``n`` is the number of members. The interval is None unless every
    member has at least two rows. Raises ValueError for a negative member or for none at all.
    """
    found = _values(name, members, version)
    if isinstance(found, Measure):
        return found
    values = np.array(found, dtype=np.float64)
    if values.min() < 0:
        raise ValueError(f"{name}: a harmonic mean of negative numbers")
    return Measure(
        name,
        float(harmonic(values)),
        n=len(values),
        ci95=harmonic_interval(members),
        version=version,
        higher_is_better=True,
        members=tuple(members),
    )


def one_minus_mean(name: str, members: Members, version: int) -> Measure:
    """1 - arithmetic mean of (label, result) pairs. Unavailable if a member is."""
    found = _values(name, members, version)
    if isinstance(found, Measure):
        return found
    value = 1 - math.fsum(found) / len(found)
    blocks = row_blocks({label: member.per_sample for label, member in members})
    interval = None if blocks is None else percentiles(1 - _resampled_means(blocks).mean(axis=0))
    return Measure(name, value, n=len(found), ci95=interval, version=version, higher_is_better=True)


def harmonic(means: Array) -> Array:
    """Harmonic mean of non-negative numbers over the first axis; 0 if one of them is 0."""
    with np.errstate(divide="ignore"):
        # 1 / 0 is inf, and n / inf is 0.
        return np.asarray(len(means) / (1.0 / np.maximum(means, 0.0)).sum(axis=0))


def harmonic_interval(members: Members) -> tuple[float, float] | None:
    """95 % interval of the harmonic mean; None if a member has fewer than two rows."""
    return interval_of({label: member.per_sample for label, member in members})


def interval_of(
    samples: Mapping[str, Sequence[float]], statistic: Statistic | None = None
) -> tuple[float, float] | None:
    """95 % interval of a statistic (the harmonic mean) of the members' means; None if a member has fewer than two rows."""
    blocks = row_blocks(samples)
    return None if blocks is None else percentiles((statistic or harmonic)(_resampled_means(blocks)))


def value_of(samples: Mapping[str, Sequence[float]], statistic: Statistic | None = None) -> float | None:
    """The statistic (the harmonic mean) of the members' means; None if a member has fewer than two rows."""
    blocks = row_blocks(samples)
    return None if blocks is None else float((statistic or harmonic)(_means(blocks)))


def difference_interval(before: Members, after: Members) -> tuple[float, float] | None:
    """95 % interval of ``after`` minus ``before``, resampling the same rows of both; None if their rows differ."""
    return paired_difference_interval(*({label: member.per_sample for label, member in side} for side in (before, after)))


def paired_difference_interval(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]], *, statistic: Statistic | None = None
) -> tuple[float, float] | None:
    """The same as ``difference_interval``, from the members' values by label, with rows in one order on both sides.

    ``statistic``: of the members' means, by default their harmonic mean.
    """
    blocks = row_blocks(before), row_blocks(after)
    if blocks[0] is None or blocks[1] is None or _shapes(blocks[0]) != _shapes(blocks[1]):
        return None
    old, new = ((statistic or harmonic)(_resampled_means(side)) for side in blocks if side is not None)
    return percentiles(new - old)


def row_blocks(samples: Mapping[str, Sequence[float]]) -> dict[str, Array] | None:
    """``split, number of rows`` -> values [members, rows]; None if a member has fewer than two rows."""
    if not samples or min(map(len, samples.values())) < 2:
        return None
    rows: dict[str, list[Sequence[float]]] = {}
    for label in sorted(samples):
        # Members of one split with different numbers of rows do not share rows.
        rows.setdefault(f"{label.partition('.')[0]}, {len(samples[label])}", []).append(samples[label])
    return {key: np.array(values, dtype=np.float64) for key, values in rows.items()}


def _resampled_means(blocks: Mapping[str, Array]) -> Array:
    """Means of the members under every resample, [members, R]."""
    return np.concatenate([block[:, resampled(block.shape[1], key)].mean(axis=2) for key, block in blocks.items()])


def _means(blocks: Mapping[str, Array]) -> Array:
    return np.concatenate([block.mean(axis=1) for block in blocks.values()])


def _shapes(blocks: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {key: block.shape for key, block in blocks.items()}


def _values(name: str, members: Members, version: int) -> list[float] | Measure:
    """The members' values, or an unavailable measure that names the missing member."""
    if not members:
        raise ValueError(f"{name} has no members")
    missing = [(label, member.unavailable or "no value") for label, member in members if member.value is None]
    if not missing:
        return [float(member.value) for _, member in members if member.value is not None]
    label, reason = missing[0]
    also = f" (and {len(missing) - 1} more of its {len(members)} parts)" if len(missing) > 1 else ""
    return Measure(
        name,
        None,
        version=version,
        higher_is_better=True,
        unavailable=f"its part {label} is missing{also}: {reason}",
    )
