"""Numbers made of other metrics' numbers: never an average over fewer than were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.contracts import MetricResult


def harmonic_mean(name: str, members: Sequence[tuple[str, MetricResult]], version: int) -> MetricResult:
    """Harmonic mean of (label, result) pairs; any 0 makes it 0. Unavailable as soon as one member is, with its reason.

    ``n`` is the number of members. Raises ValueError for a negative member or for none at all.
    """
    from scipy.stats import hmean

    if not members:
        raise ValueError(f"{name} has no members")
    missing = [(label, member.unavailable or "no value") for label, member in members if member.value is None]
    if missing:
        label, reason = missing[0]
        also = f" (and {len(missing) - 1} more of its {len(members)} parts)" if len(missing) > 1 else ""
        return MetricResult(
            name,
            None,
            version=version,
            higher_is_better=True,
            unavailable=f"its part {label} is missing{also}: {reason}",
        )
    values = [float(member.value) for _, member in members if member.value is not None]
    if min(values) < 0:
        raise ValueError(f"{name}: a harmonic mean of negative numbers")
    value = float(hmean(values)) if min(values) > 0 else 0.0
    return MetricResult(name, value, n=len(values), version=version, higher_is_better=True)
