"""Numbers made of other metrics' numbers: never an average over fewer than were asked for.

Their intervals come from resampling rows within each split. What is measured on one row (its ROUGE, its probability, its truth
ratio) belongs together, so the members of a split share every resample; the splits are resampled independently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unierase_cli.contracts import Measure
from unierase_cli.metrics.statistics.bootstrap import percentiles, resampled

Array = NDArray[np.float64]
Members = Sequence[tuple[str, Measure]]


def harmonic_mean(name: str, members: Members, version: int) -> Measure:
    """Harmonic mean of (label, result) pairs; any 0 makes it 0. Unavailable as soon as one member is, with its reason.

    Labels start with the split, as in ``real_authors.rouge``. ``n`` is the number of members. The interval is None unless every
    member has two rows or more. Raises ValueError for a negative member or for none at all.
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
    """1 - arithmetic mean of (label, result) pairs: what is left once their mean is taken away. Unavailable as soon as one is."""
    found = _values(name, members, version)
    if isinstance(found, Measure):
        return found
    value = 1 - math.fsum(found) / len(found)
    blocks = row_blocks({label: member.per_sample for label, member in members})
    interval = None if blocks is None else percentiles(1 - _resampled_means(blocks).mean(axis=0))
    return Measure(name, value, n=len(found), ci95=interval, version=version, higher_is_better=True)


def harmonic(means: Array) -> Array:
    """Harmonic mean over the first axis of numbers that are not negative; 0 where one of them is 0."""
    with np.errstate(divide="ignore"):
        # A mean of 0 has an infinite reciprocal, and what is divided by that is 0.
        return np.asarray(len(means) / (1.0 / np.maximum(means, 0.0)).sum(axis=0))


def harmonic_interval(members: Members) -> tuple[float, float] | None:
    """95 % interval of the harmonic mean; None where a member has fewer than two rows."""
    blocks = row_blocks({label: member.per_sample for label, member in members})
    return None if blocks is None else percentiles(harmonic(_resampled_means(blocks)))


def difference_interval(before: Members, after: Members) -> tuple[float, float] | None:
    """95 % interval of ``after`` minus ``before``, resampling the same rows of both; None where their rows are not the same."""
    return paired_difference_interval(*({label: member.per_sample for label, member in side} for side in (before, after)))


def paired_difference_interval(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]
) -> tuple[float, float] | None:
    """The same from the members' values by label, rows in one order on both sides."""
    blocks = row_blocks(before), row_blocks(after)
    if blocks[0] is None or blocks[1] is None or _shapes(blocks[0]) != _shapes(blocks[1]):
        return None
    old, new = (harmonic(_resampled_means(side)) for side in blocks if side is not None)
    return percentiles(new - old)


def row_blocks(samples: Mapping[str, Sequence[float]]) -> dict[str, Array] | None:
    """``split, number of rows`` -> values [members, rows] of the members on these rows; None if one has fewer than two rows."""
    if not samples or min(map(len, samples.values())) < 2:
        return None
    rows: dict[str, list[Sequence[float]]] = {}
    for label in sorted(samples):
        # Members of a split with other numbers of rows are not of the same rows.
        rows.setdefault(f"{label.partition('.')[0]}, {len(samples[label])}", []).append(samples[label])
    return {key: np.array(values, dtype=np.float64) for key, values in rows.items()}


def _resampled_means(blocks: Mapping[str, Array]) -> Array:
    """Means of the members under every resample, [members, R]."""
    return np.concatenate([block[:, resampled(block.shape[1], key)].mean(axis=2) for key, block in blocks.items()])


def _shapes(blocks: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {key: block.shape for key, block in blocks.items()}


def _values(name: str, members: Members, version: int) -> list[float] | Measure:
    """The members' values, or the result that says which member has none."""
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
