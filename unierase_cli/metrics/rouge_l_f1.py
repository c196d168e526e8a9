"""ROUGE-L F1: unlike recall it also falls with what is said beyond the true answer (Lin 2004; open-unlearning logs it)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import DETAIL, About, Column, Evidence, on_every_split
from unierase_cli.metrics.rouge import mean_overlap, rouge_l_f1

NAME = "rouge_l_f1"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "ROUGE-L F1", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean ROUGE-L F1 of the generated texts."""
    return mean_overlap(ABOUT, observations, rouge_l_f1)


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True, group=DETAIL)
