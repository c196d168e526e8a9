"""Scores a log of TOFU or closer-look in every definition that it allows, and gives the reason for those that it does not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unierase_cli.contracts import Measure, UserError
from unierase_cli.interchange.tofu_log import SETS, TofuLog, differing_rows
from unierase_cli.interchange.tofu_members import ANSWERS, Members, members_of, missing_field, observations
from unierase_cli.metrics import closer_look, model_utility, probability, rouge, truth_ratio
from unierase_cli.metrics.base import FORGET, OPTION_SPLITS, RETAIN
from unierase_cli.metrics.forget_quality import ks_p_value

NO_RETAIN_LOG = "no retain log is given: name one with --retain-log LOG"
NOT_REAL = "its kept rows are TOFU's, not those of real people's neighbours: it has real authors or world facts"


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Forget quality: the test's statistic and p-value, and the number of rows per model. ``unavailable``: why there is none."""

    statistic: float | None = None
    p: float | None = None
    n: int = 0
    n_retain: int = 0
    unavailable: str | None = None

    @property
    def log10_p(self) -> float | None:
        """None if there is no p-value, or if it underflows to 0."""
        return math.log10(self.p) if self.p else None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "log10_p": self.log10_p}


@dataclass(frozen=True)
class LogScores:
    """``members``: split -> member -> measure. ``aggregates``: model utility in all its definitions, and forget efficacy."""

    log: TofuLog
    members: Mapping[str, Members]
    aggregates: Mapping[str, Measure]
    forget_quality: KolmogorovSmirnov
    notes: tuple[str, ...] = ()

    @property
    def upside_down(self) -> Measure:
        """The forget set's truth ratio as closer-look reports it."""
        return closer_look.upside_down(self.members[FORGET][truth_ratio.NAME])

    def to_json(self) -> dict[str, Any]:
        return {
            "log": str(self.log.path),
            "format": self.log.wrote,
            "rows": {split: len(read.index) for split, read in self.log.sets.items()},
            "members": {s: {n: _plain(r) for n, r in of_set.items()} for s, of_set in self.members.items()},
            "forget_truth_ratio_upside_down": _plain(self.upside_down),
            "aggregates": {name: _plain(result) for name, result in self.aggregates.items()},
            "forget_quality": self.forget_quality.to_json(),
            "notes": list(self.notes),
        }


def score_log(log: TofuLog, retain: TofuLog | None = None) -> LogScores:
    """All scores that the log allows; with the log of a retain model, forget quality too.

    Raises UserError if the two logs' forget rows differ.
    """
    members = {split: members_of(log, split) for split in SETS}
    if retain is None:
        return LogScores(log, members, _aggregates(log, members), KolmogorovSmirnov(unavailable=NO_RETAIN_LOG))
    return LogScores(log, members, _aggregates(log, members), *forget_quality(log, retain))


def forget_quality(log: TofuLog, retain: TofuLog) -> tuple[KolmogorovSmirnov, tuple[str, ...]]:
    """The test on the forget rows' truth ratios, with caveats. Raises UserError if the logs' rows differ."""
    for each in (log, retain):
        if reason := missing_field(each, FORGET, ANSWERS):
            return KolmogorovSmirnov(unavailable=reason), ()
    mine, theirs = log.sets[FORGET], retain.sets[FORGET]
    differing, named = differing_rows(mine, theirs)
    if differing:
        raise UserError(
            f"{retain.path} was asked other forget questions than {log.path}: {differing} of "
            f"{max(len(mine.index), len(theirs.index))} differ by {named}",
            "give the log of a retain model that was evaluated on the same forget set",
        )
    notes = []
    if named == "position":
        notes.append("the logs do not say which forget rows they have; they are assumed to be the same")
    if named != "question" and log.wrote != retain.wrote:
        notes.append(
            "TOFU and closer-look order forget05 and forget10 differently: equal row numbers may be different questions"
        )
    unlearned, retained = ([truth_ratio.log_ratio(o) for o in observations(s, FORGET)] for s in (mine, theirs))
    statistic, p = _ks_statistic(unlearned, retained), ks_p_value(unlearned, retained)
    return KolmogorovSmirnov(statistic, p, len(unlearned), len(retained)), tuple(notes)


def _ks_statistic(first: Sequence[float], second: Sequence[float]) -> float:
    """Largest distance between the two samples' distribution functions."""
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        # The statistic does not depend on the method; this method's p-value, undefined for one row, is not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ks_2samp(first, second, method="asymp").statistic)


def _aggregates(log: TofuLog, members: Mapping[str, Members]) -> dict[str, Measure]:
    """Model utility of TOFU (both truth ratios) and of closer-look (18, 6 and 6 numbers), and forget efficacy, by name."""
    found = [model_utility.of_parts(_tofu_parts(members, a), arithmetic=a) for a in (False, True)]
    found += [closer_look.model_utility(members), closer_look.model_utility_retain(members[RETAIN])]
    neighbour = closer_look.model_utility_neighbour(members[RETAIN])
    if any(split in log.sets for split in OPTION_SPLITS):
        neighbour = Measure(neighbour.name, None, unavailable=NOT_REAL)
    found += [neighbour, closer_look.forget_efficacy(members[FORGET])]
    return {result.name: result for result in found}


def _tofu_parts(members: Mapping[str, Members], arithmetic: bool) -> Members:
    names = (rouge.NAME, probability.NAME, truth_ratio.ARITHMETIC.name if arithmetic else truth_ratio.NAME)
    return {f"{split}.{name}": members[split][name] for split in model_utility.SPLITS for name in names}


def _plain(result: Measure) -> dict[str, Any]:
    return {"value": result.value, "n": result.n, "ci95": result.ci95, "unavailable": result.unavailable}
