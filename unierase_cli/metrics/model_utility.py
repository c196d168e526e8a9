"""TOFU's model utility: harmonic mean of ROUGE, probability and truth ratio on retain, real authors and world facts.

The default is the leaderboard's definition (geometric truth ratio, about 0.62 for Llama-2-7B). The definition of TOFU's run-time
aggregate (arithmetic truth ratio) has a name of its own (spec: metrics, section 2). Retain is the split never seen by any method. A
part of 0 makes it 0; a missing part makes it unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import probability, rouge, truth_ratio
from unierase_cli.metrics.base import (
    OPTION_SPLITS,
    OVERALL,
    OVERVIEW,
    RETAIN,
    About,
    Column,
    Compute,
    Evidence,
    by_pass,
)
from unierase_cli.metrics.statistics.aggregate import harmonic_mean

NAME = "model_utility"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "model utility", VERSION, HIGHER_IS_BETTER)
ARITHMETIC = About("model_utility_arithmetic", "model utility (arithmetic truth ratio)", VERSION, HIGHER_IS_BETTER)
SPLITS = (RETAIN, *OPTION_SPLITS)


def compute(observations: Sequence[Observation], *, arithmetic: bool = False) -> Measure:
    """Model utility from the plain observations of its three splits, in any order."""
    return of_evidence(Evidence("", by_pass(observations)), arithmetic=arithmetic)


def of_evidence(evidence: Evidence, *, arithmetic: bool = False) -> Measure:
    """Model utility of one model state."""
    return of_parts(parts(evidence, arithmetic=arithmetic), arithmetic=arithmetic)


def of_parts(members: Mapping[str, Measure], *, arithmetic: bool = False) -> Measure:
    """Model utility from its nine parts, by label."""
    return harmonic_mean((ARITHMETIC if arithmetic else ABOUT).name, list(members.items()), VERSION)


def parts(evidence: Evidence, *, arithmetic: bool = False) -> dict[str, Measure]:
    """The nine parts by label, e.g. ``real_authors.truth_ratio``."""
    ratio: tuple[About, Compute] = (truth_ratio.ABOUT, truth_ratio.compute)
    if arithmetic:
        ratio = (truth_ratio.ARITHMETIC, truth_ratio.compute_arithmetic)
    members = {}
    for split in SPLITS:
        likely: tuple[About, Compute] = (probability.ABOUT, probability.compute)
        if split in OPTION_SPLITS:
            likely = (probability.NORMALISED, probability.compute_normalised)
        wanted: list[tuple[About, Compute]] = [(rouge.ABOUT, rouge.compute), likely, ratio]
        for about, compute_part in wanted:
            members[f"{split}.{about.name}"] = evidence.measure(about, compute_part, split)
    return members


def columns(evidence: Evidence) -> Iterable[Column]:
    yield Column(NAME, ABOUT.title, OVERALL, OVERVIEW, of_evidence(evidence))
    yield Column(ARITHMETIC.name, ARITHMETIC.title, OVERALL, OVERVIEW, of_evidence(evidence, arithmetic=True))
