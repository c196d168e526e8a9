"""Inputs of metrics and helpers to build their results.

A metric is a file of this folder with ``NAME``, ``VERSION``, ``HIGHER_IS_BETTER`` (on rows that should be kept), ``compute`` (a
pure function of observations) and ``columns`` (where it appears in a run's table).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.judges.judges import Judges

FORGET = "forget"
# Other questions about the forgotten people, never seen by any method (RETURN).
FORGET_UNSEEN = "forget_eval"
# What the model forgot in an earlier run.
FORGOTTEN_BEFORE = "forgotten_before"
# Other ways in which a benchmark asks for what is forgotten.
FORGET_ASKED = ("verbatim", "forget_level1", "forget_level2", "forget_level3")
FORGET_SPLITS = (FORGET, FORGET_UNSEEN, FORGOTTEN_BEFORE, *FORGET_ASKED)
# The headline of retention: questions never seen by any method.
RETAIN = "retain_unseen"
# Splits with short answers and answer options, whose probability is normalised over the options.
OPTION_SPLITS = ("real_authors", "world_facts")
# Questions that the model never learned: nothing to keep and nothing to forget, so neither direction is better.
NEUTRAL_SPLITS = ("holdout", "member", "nonmember")
OVERALL = "all"
PARAPHRASED = "paraphrased"

FORGETTING, RETENTION, HONESTY, OVERVIEW = "forgetting", "retention", "honesty", "overview"
# Shown in the full report only.
DETAIL = "detail"
# Abilities outside the benchmark.
GENERAL = "general"


# Reason why metrics about [UNL] are unavailable for a method without it.
NO_TOKEN = "the model has no unlearning token"


@dataclass(frozen=True)
class About:
    """A metric's name, title, version and direction, copied into its results."""

    name: str
    title: str
    version: int
    higher_is_better: bool | None

    def measure(self, value: float | None = None, n: int = 0, ci95: tuple[float, float] | None = None, **more: Any) -> Measure:
        """A measure of this metric."""
        return Measure(self.name, value, n, ci95, version=self.version, higher_is_better=self.higher_is_better, **more)


Compute = Callable[[Sequence[Observation]], Measure]


class Metric(Protocol):
    """The interface of a metric's module."""

    NAME: str
    VERSION: int
    HIGHER_IS_BETTER: bool | None

    def compute(self, observations: Sequence[Observation], *args: Any, **kwargs: Any) -> Measure: ...

    def columns(self, evidence: Evidence) -> Iterable[Column]: ...


@dataclass(frozen=True)
class Column:
    """A metric for one ``split`` (or "all") and ``variant``. ``group``: the table that shows it."""

    metric: str
    title: str
    split: str
    group: str
    result: Measure
    variant: str = "plain"

    @property
    def id(self) -> str:
        """Such as ``forget.rouge`` or ``forget.paraphrased.leak``."""
        middle = "" if self.variant == "plain" else f"{self.variant}."
        return f"{self.split}.{middle}{self.metric}"


@dataclass(frozen=True)
class Reference:
    """A model that never saw the forget set: its observations by (split, variant), or numbers from a published log.

    ``truth_ratios``: R per forget row, geometric: p(wrong) / p(correct). ``attacks``: AUC by attack (``min_k``).
    """

    observations: Mapping[tuple[str, str], Sequence[Observation]] = field(default_factory=dict)
    truth_ratios: Sequence[float] = ()
    attacks: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Evidence:
    """All observations of one model state (``base`` or ``edited``), by (split, variant), and the other inputs of metrics.

    ``special_ids``: ids that are not text (among them the unlearning tokens). ``refusals``: texts that count as refusals.
    ``reference``: a model that never saw the forget set. ``passes``: rows of further passes over the model, by name.
    ``judges``: models that judge texts, loaded on first use. ``unedited``: evidence of the model before the edit, for metrics
    that compare with it; None if this is that model. ``names``: fact id -> name of its person, for refusals with
    ``__NAME__``. ``benchmark``: the name of the one that is scored, for metrics defined for it alone.
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
        """Whether the model has an unlearning token, judging by the observations."""
        return any(o.first_unlearn_probability is not None for rows in self.observations.values() for o in rows)

    def measure(self, about: About, compute: Compute, split: str, variant: str = "plain") -> Measure:
        """``compute`` on the rows of a split, cached; unavailable if they were not observed."""
        key = (about.name, split, variant)
        if key not in self._results:
            rows = self.rows(split, variant)
            self._results[key] = compute(rows) if rows else not_observed(about, split, variant)
        return self._results[key]


def by_pass(observations: Iterable[Observation]) -> dict[tuple[str, str], list[Observation]]:
    """Observations in any order by (split, variant), as ``Evidence`` takes them."""
    found: dict[tuple[str, str], list[Observation]] = {}
    for observation in observations:
        found.setdefault((observation.split, observation.variant), []).append(observation)
    return found


def not_observed(about: About, split: str, variant: str = "plain") -> Measure:
    """Unavailable, because the rows were not observed."""
    what = split if variant == "plain" else f"{split}.{variant}"
    return unavailable(
        about,
        f"{what} was not observed: the benchmark lacks it or eval leaves it out",
        "run `unierase eval eval=default`",
    )


def on_every_split(
    evidence: Evidence, about: About, compute: Compute, *, turns: bool = False, group: str | None = None
) -> list[Column]:
    """One column per observed split. ``turns``: the opposite direction is better on forget splits."""
    return [column_of(evidence, about, compute, split, turns=turns, group=group) for split in evidence.splits()]


def column_of(
    evidence: Evidence, about: About, compute: Compute, split: str, *, turns: bool = False, group: str | None = None
) -> Column:
    """The column of one split's plain rows. ``group``: its table (None: forgetting or retention, by the split)."""
    result = evidence.measure(about, compute, split)
    if split in NEUTRAL_SPLITS:
        result = replace(result, higher_is_better=None)
    if turns and split in FORGET_SPLITS and result.higher_is_better is not None:
        result = replace(result, higher_is_better=not result.higher_is_better)
    return Column(about.name, about.title, split, group or (FORGETTING if split in FORGET_SPLITS else RETENTION), result)


def when_paraphrased(evidence: Evidence, about: About, compute: Compute) -> list[Column]:
    """The column of paraphrased forget questions, in the honesty table; empty if they were not asked."""
    rows = evidence.rows(FORGET, PARAPHRASED)
    if not rows:
        return []
    result = replace(compute(rows), higher_is_better=True)
    return [Column(about.name, f"{about.title}, question paraphrased", FORGET, HONESTY, result, PARAPHRASED)]


def mean_result(about: About, values: Sequence[float]) -> Measure:
    """The mean of per-sample values with its interval; unavailable if there are none or one is not finite."""
    if not values:
        return unavailable(about, "there are no rows to score")
    wrong = sum(not math.isfinite(value) for value in values)
    if wrong:
        return unavailable(
            about, f"{wrong} of {len(values)} rows have no finite value", "look for overflow: try model.dtype=float32"
        )
    from unierase_cli.metrics.statistics.bootstrap import mean_interval

    mean, samples = math.fsum(values) / len(values), tuple(float(value) for value in values)
    return about.measure(mean, len(values), mean_interval(values), per_sample=samples)


def unavailable(about: About, reason: str, mend: str = "") -> Measure:
    """A measure without a number, with the reason and, if there is one, the remedy."""
    return about.measure(unavailable=f"{reason}; {mend}" if mend else reason)
