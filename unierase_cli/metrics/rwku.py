"""RWKU's score (arXiv 2406.10890): ROUGE-L recall of white-space tokens without stemming, by level and for neighbours.

As in the package `rouge`, which the authors use: case and punctuation count. The project's own ROUGE stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, column_of, mean_result
from unierase_cli.metrics.rouge import plain_rouge_l

NAME = "rwku"
VERSION = 1
HIGHER_IS_BETTER = True
BENCHMARK = "rwku"
ABOUT = About(NAME, "RWKU ROUGE-L recall", VERSION, HIGHER_IS_BETTER)
SPLITS = ("forget_level1", "forget_level2", "forget_level3", "retain_near")


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean recall; nothing said counts as the official "NOANSWER"."""
    return mean_result(ABOUT, [plain_rouge_l(o.text.strip() or "NOANSWER", o.reference, split=True).recall for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    """No columns for other benchmarks."""
    if evidence.benchmark == BENCHMARK:
        yield from (column_of(evidence, ABOUT, compute, split, turns=True) for split in SPLITS)
