"""What metrics are made from and how their results are put together.

A metric is a file of this folder with ``NAME``, ``VERSION``, ``HIGHER_IS_BETTER`` (on rows that should be kept), ``compute`` (a
pure function of observations) and ``columns`` (where in a run's table it appears).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.statistics.bootstrap import mean_interval

FORGET = "forget"
# Other questions about the forgotten people, which no method has seen (RETURN).
FORGET_UNSEEN = "forget_eval"
# What the model forgot in an earlier run.
FORGOTTEN_BEFORE = "forgotten_before"
FORGET_SPLITS = (FORGET, FORGET_UNSEEN, FORGOTTEN_BEFORE)
# The headline of retention: questions that no method has seen.
RETAIN = "retain_unseen"
# Splits with short answers and answer options, whose probability is normalised over the options.
OPTION_SPLITS = ("real_authors", "world_facts")
# Questions that the model never learned: nothing to keep and nothing to forget, so no direction is the better one.
NEUTRAL_SPLITS = ("holdout",)
OVERALL = "all"
PARAPHRASED = "paraphrased"

FORGETTING, RETENTION, HONESTY, OVERVIEW = "forgetting", "retention", "honesty", "overview"
# What only the full report shows: metrics beside the headline ones.
DETAIL = "detail"
# What the model can do beside the benchmark.
GENERAL = "general"


# Why what is about [UNL] is unavailable for a method without one.
NO_TOKEN = "the model has no unlearning token"


@dataclass(frozen=True)
class About:
    """A metric's name, title, version and direction, as its results carry them."""

    name: str
    title: str
    version: int
    higher_is_better: bool | None

    def measure(self, value: float | None = None, n: int = 0, ci95: tuple[float, float] | None = None, **more: Any) -> Measure:
        """A number of this metric."""
        return Measure(self.name, value, n, ci95, version=self.version, higher_is_better=self.higher_is_better, **more)


Compute = Callable[[Sequence[Observation]], Measure]


class Metric(Protocol):
    """The face of a metric's module."""

    NAME: str
    VERSION: int
    HIGHER_IS_BETTER: bool | None

    def compute(self, observations: Sequence[Observation], *args: Any, **kwargs: Any) -> Measure: ...

    def columns(self, evidence: Evidence) -> Iterable[Column]: ...


@dataclass(frozen=True)
class Column:
    """A metric at a place: ``split`` (or "all") and ``variant``. ``group`` is the table it belongs to."""

    metric: str
    title: str
    split: str
    group: str
    result: Measure
    variant: str = "plain"

    @property
    def id(self) -> str:
        """``forget.rouge``, ``forget.paraphrased.leak``."""
        middle = "" if self.variant == "plain" else f"{self.variant}."
        return f"{self.split}.{middle}{self.metric}"


@dataclass(frozen=True)
class Reference:
    """A model that never saw the forget set: its observations by (split, variant), or what a published log says of it.

    ``truth_ratios``: R per row of the forget set, geometric: p(wrong) / p(correct). ``attacks``: AUC by attack (``min_k``).
    """

    observations: Mapping[tuple[str, str], Sequence[Observation]] = field(default_factory=dict)
    truth_ratios: Sequence[float] = ()
    attacks: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Evidence:
    """All observations of one model state (``base`` or ``edited``), by (split, variant), and what metrics need beside them.

    ``special_ids``: ids that are no text (among them the unlearning tokens). ``refusals``: texts that count as refusals.
    ``reference``: a model that never saw the forget set. ``passes``: rows of further passes over the model, by their name.
    ``judges``: models that judge texts, loaded when first asked. ``unedited``: the evidence of the model before the edit, for
    metrics that compare with it; None where this is that model. ``names``: fact id -> whom it is about, for refusals that say
    ``__NAME__``. ``benchmark``: its name, where a metric is defined for one alone.
    """

    state: str
    observations: Mapping[tuple[str, str], Sequence[Observation]]
    refusals: Sequence[str] = ()
    special_ids: Collection[int] = ()
    reference: Reference | None = None
    passes: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    judges: Judges = field(default_factory=Judges)
    unedited: Evidence | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    benchmark: str = ""
    _results: dict[tuple[str, str, str], Measure] = field(default_factory=dict, repr=False)

    def rows(self, split: str, variant: str = "plain") -> Sequence[Observation]:
        """Observations of a split; empty if it was not observed."""
        return self.observations.get((split, variant), ())

    def splits(self) -> list[str]:
        """Splits with plain observations, in their order."""
        return [split for split, variant in self.observations if variant == "plain"]

    def has_token(self) -> bool:
        """Whether the model has an unlearning token, going by what was observed."""
        return any(o.first_unlearn_probability is not None for rows in self.observations.values() for o in rows)

    def measure(self, about: About, compute: Compute, split: str, variant: str = "plain") -> Measure:
        """``compute`` on the rows of a split, once; unavailable if they were not observed."""
        key = (about.name, split, variant)
        if key not in self._results:
            rows = self.rows(split, variant)
            self._results[key] = compute(rows) if rows else not_observed(about, split, variant)
        return self._results[key]


def not_observed(about: About, split: str, variant: str = "plain") -> Measure:
    """Unavailable, because there is no observation of the rows that the metric is about."""
    what = split if variant == "plain" else f"{split}.{variant}"
    return unavailable(
        about,
        f"{what} was not observed: the benchmark lacks it or eval leaves it out",
        "run `unierase eval eval=default`",
    )


def on_every_split(
    evidence: Evidence, about: About, compute: Compute, *, turns: bool = False, group: str | None = None
) -> list[Column]:
    """A column per observed split. ``turns``: on forget splits the opposite direction is better."""
    return [column_of(evidence, about, compute, split, turns=turns, group=group) for split in evidence.splits()]


def column_of(
    evidence: Evidence, about: About, compute: Compute, split: str, *, turns: bool = False, group: str | None = None
) -> Column:
    """The column of one split's plain rows. ``group``: its table, else the one about forgetting or about retention."""
    result = evidence.measure(about, compute, split)
    if split in NEUTRAL_SPLITS:
        result = replace(result, higher_is_better=None)
    if turns and split in FORGET_SPLITS and result.higher_is_better is not None:
        result = replace(result, higher_is_better=not result.higher_is_better)
    return Column(about.name, about.title, split, group or (FORGETTING if split in FORGET_SPLITS else RETENTION), result)


def when_paraphrased(evidence: Evidence, about: About, compute: Compute) -> list[Column]:
    """The column of forget questions in other words, among what comes back; none where they were not asked."""
    rows = evidence.rows(FORGET, PARAPHRASED)
    if not rows:
        return []
    result = replace(compute(rows), higher_is_better=True)
    return [Column(about.name, f"{about.title}, question paraphrased", FORGET, HONESTY, result, PARAPHRASED)]


def mean_result(about: About, values: Sequence[float]) -> Measure:
    """The mean of per-sample values with its interval; unavailable for no values, or for values that are not numbers."""
    if not values:
        return unavailable(about, "there are no rows to score")
    wrong = sum(not math.isfinite(value) for value in values)
    if wrong:
        return unavailable(
            about, f"{wrong} of {len(values)} rows have no finite value", "look for overflow: try model.dtype=float32"
        )
    mean, samples = math.fsum(values) / len(values), tuple(float(value) for value in values)
    return about.measure(mean, len(values), mean_interval(values), per_sample=samples)


def unavailable(about: About, reason: str, mend: str = "") -> Measure:
    """No number, but why, and what to do about it where anything can be done."""
    return about.measure(unavailable=f"{reason}; {mend}" if mend else reason)
