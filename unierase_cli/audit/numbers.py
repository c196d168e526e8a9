"""What an attack brings back, beside the control and the unedited model: paired by fact, resampled by group.

The formulas: gain = recovered - plain; excess = recovered - control; share = excess / (ceiling - control). Intervals: 95 %
percentile bootstrap over groups, the same resamples for all models and attacks; of the share the ratio of resampled means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

from unierase_cli.audit.intervals import Interval
from unierase_cli.metrics.statistics.bootstrap import percentiles, resampled

Array = NDArray[np.float64]
NO_CONTROL = "no model without these facts"
NO_CEILING = "no unedited model"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Means over ``n`` facts of ``groups`` groups, None where there is no such model; ``why_no_share``: the reason where there
    is no share.
    """

    n: int
    groups: int
    recovered: float
    plain: float | None = None
    control: float | None = None
    ceiling: float | None = None
    excess: float | None = None
    excess_ci: Interval | None = None
    share: float | None = None
    share_ci: Interval | None = None
    why_no_share: str = ""

    @property
    def gain(self) -> float | None:
        """What the attack brings back beyond plain questions."""
        return None if self.plain is None else self.recovered - self.plain


def numbers(
    unlearned: Mapping[str, float],
    control: Mapping[str, float] | None,
    ceiling: Mapping[str, float] | None,
    plain: Mapping[str, float] | None,
    groups: Mapping[str, str],
    smallest_gap: float,
    *,
    apart: bool = False,
) -> Numbers | None:
    """An attack's numbers on the facts that all models have a score of; None where there is no such fact.

    ``groups``: fact -> its group. Without an interval where all facts are of one group. ``apart``: the control's scores are of
    other facts, so that nothing is paired with them and their groups are resampled by themselves.
    """
    if apart and control is not None:
        return _with_other_facts(unlearned, control, ceiling, plain, groups, smallest_gap)
    models = [model for model in (unlearned, control, ceiling, plain) if model is not None]
    facts = [fact for fact in unlearned if all(fact in model for model in models)]
    if not facts:
        return None
    u = [unlearned[fact] for fact in facts]
    r, f, p = (None if model is None else [model[fact] for fact in facts] for model in (control, ceiling, plain))
    members = [groups.get(fact, fact) for fact in facts]
    excess = None if r is None else [a - b for a, b in zip(u, r, strict=True)]
    share, share_ci, why = _paired_share(u, r, f, members, smallest_gap)
    return Numbers(
        n=len(facts),
        groups=len(set(members)),
        recovered=mean(u),
        plain=None if p is None else mean(p),
        control=None if r is None else mean(r),
        ceiling=None if f is None else mean(f),
        excess=None if excess is None else mean(excess),
        excess_ci=None if excess is None else _interval(_resampled([excess], members)),
        share=share,
        share_ci=share_ci,
        why_no_share=why,
    )


def _with_other_facts(
    unlearned: Mapping[str, float],
    control: Mapping[str, float],
    ceiling: Mapping[str, float] | None,
    plain: Mapping[str, float] | None,
    groups: Mapping[str, str],
    smallest_gap: float,
) -> Numbers | None:
    """``numbers`` against a control of other facts: differences of means, and of independently resampled means."""
    alone = numbers(unlearned, None, ceiling, plain, groups, smallest_gap)
    if alone is None or not control:
        return alone
    facts = [fact for fact in unlearned if all(fact in model for model in (ceiling, plain) if model is not None)]
    own = [[model[fact] for fact in facts] for model in (unlearned, ceiling) if model is not None]
    drawn = _resampled(own, [groups.get(fact, fact) for fact in facts])
    beside = _resampled([list(control.values())], [groups.get(fact, fact) for fact in control], "audit control")
    differences = None if drawn is None or beside is None else drawn - beside
    r = mean(list(control.values()))
    excess = alone.recovered - r
    share, share_ci, why = None, None, NO_CEILING
    if alone.ceiling is not None:
        share, share_ci, why = _share(excess, alone.ceiling - r, differences, alone.ceiling, r, smallest_gap)
    return replace(
        alone, control=r, excess=excess, excess_ci=_interval(differences), share=share, share_ci=share_ci, why_no_share=why
    )


def relative_numbers(intact: Mapping[str, float], groups: Mapping[str, str]) -> Numbers | None:
    """Numbers of a score that is itself a share: 0 as in the control, 1 as in the unedited model."""
    if not intact:
        return None
    values, members = list(intact.values()), [groups.get(fact, fact) for fact in intact]
    interval, share = _interval(_resampled([values], members)), mean(values)
    return Numbers(
        n=len(values),
        groups=len(set(members)),
        recovered=share,
        control=0.0,
        ceiling=1.0,
        excess=share,
        excess_ci=interval,
        share=share,
        share_ci=interval,
    )


def interval_of(values: Mapping[str, float], groups: Mapping[str, str]) -> Interval | None:
    """The interval of the mean of one model's scores; None for facts of a single group."""
    return _interval(_resampled([list(values.values())], [groups.get(fact, fact) for fact in values]))


def mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _paired_share(
    u: Sequence[float], r: Sequence[float] | None, f: Sequence[float] | None, members: Sequence[str], smallest_gap: float
) -> tuple[float | None, Interval | None, str]:
    if r is None or f is None:
        return None, None, NO_CONTROL if r is None else NO_CEILING
    excess, gap = [a - b for a, b in zip(u, r, strict=True)], [a - b for a, b in zip(f, r, strict=True)]
    return _share(mean(excess), mean(gap), _resampled([excess, gap], members), mean(f), mean(r), smallest_gap)


def _share(
    excess: float, gap: float, drawn: Array | None, ceiling: float, control: float, smallest_gap: float
) -> tuple[float | None, Interval | None, str]:
    """Share, interval and why there is none; ``drawn``: resampled excess and gap, [resamples, 2]."""
    spread = None if drawn is None else percentiles(drawn[:, 1])
    if gap < smallest_gap or (spread is not None and spread[0] <= 0):
        return None, None, f"the unedited model's {ceiling:.3f} and the control's {control:.3f} are too close"
    share = excess / gap
    if drawn is None:
        return share, None, ""
    # At most the lowest 2.5 % of the resamples have no gap, or the interval above would touch 0.
    whole = drawn[drawn[:, 1] > 0]
    return share, percentiles(whole[:, 0] / whole[:, 1]), ""


def _interval(drawn: Array | None) -> Interval | None:
    return None if drawn is None else percentiles(drawn[:, 0])


def _resampled(columns: Sequence[Sequence[float]], members: Sequence[str], purpose: str = "audit") -> Array | None:
    """Means of each column over resampled groups, [resamples, columns]; None for a single group."""
    names = list(dict.fromkeys(members))
    if len(names) < 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    owner = np.array([place[member] for member in members])
    counts = np.bincount(owner, minlength=len(names)).astype(np.float64)
    sums = np.stack([np.bincount(owner, np.asarray(c, np.float64), len(names)) for c in columns], axis=1)
    chosen = resampled(len(names), purpose)
    return sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)[:, None]
