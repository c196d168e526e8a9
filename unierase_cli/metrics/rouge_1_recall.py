"""ROUGE-1 recall: share of the true answer's words that are said, in any order (Lin 2004; TOFU logs it beside ROUGE-L)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import DETAIL, About, Column, Evidence, on_every_split
from unierase_cli.metrics.rouge import mean_overlap, rouge_1_recall

NAME = "rouge_1_recall"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "ROUGE-1 recall", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean ROUGE-1 recall of the generated texts."""
    return mean_overlap(ABOUT, observations, rouge_1_recall)


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True, group=DETAIL)
