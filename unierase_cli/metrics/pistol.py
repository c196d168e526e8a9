"""PISTOL's deviation score (arXiv 2406.16810): how far forgetting and retention are from perfect, in one number.

100 sqrt(R_forget^2 + (1 - R_retain)^2) with ROUGE-1 recalls; 0 is best. Retained are all scored rows of other contracts; how the
loss falls with the distance in the graph is in the splits' own columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import FORGET, OVERALL, OVERVIEW, About, Column, Evidence, not_observed, unavailable
from unierase_cli.metrics.rouge import ROUGE_1_RECALL

NAME = "pistol_deviation"
VERSION = 1
HIGHER_IS_BETTER = False
BENCHMARK = "pistol"
ABOUT = About(NAME, "PISTOL deviation score, 0 is best", VERSION, HIGHER_IS_BETTER)
RETAINED = ("retain_protected", "retain_near", "distance_2", "distance_3", "retain_unseen")


def compute(observations: Sequence[Observation], retained: Sequence[Observation] = ()) -> Measure:
    """The deviation of forget rows and retained rows."""
    if not observations or not retained:
        return not_observed(ABOUT, "a retain split" if observations else FORGET)
    forget, retain = (ROUGE_1_RECALL.compute(rows) for rows in (observations, retained))
    if forget.value is None or retain.value is None:
        return unavailable(ABOUT, forget.unavailable or retain.unavailable or "")
    return ABOUT.measure(100 * math.hypot(forget.value, 1 - retain.value), forget.n + retain.n)


def columns(evidence: Evidence) -> Iterable[Column]:
    if evidence.benchmark == BENCHMARK:
        retained = {o.fact_id: o for split in RETAINED for o in evidence.rows(split)}
        yield Column(NAME, ABOUT.title, OVERALL, OVERVIEW, compute(evidence.rows(FORGET), list(retained.values())))
