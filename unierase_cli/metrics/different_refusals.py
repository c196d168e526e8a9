"""Number of distinct listed refusals among the clean refusals: shows whether a model varies them or repeats one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unierase_cli.contracts import NAME_SLOT, Measure, Observation
from unierase_cli.metrics.base import DETAIL, FORGET, About, Column, Evidence, unavailable
from unierase_cli.metrics.refusal_rate import is_refusal, without_unlearning_tokens
from unierase_cli.metrics.rouge import rouge_l_f1

NAME = "different_refusals"
VERSION = 1
HIGHER_IS_BETTER = None
ABOUT = About(NAME, "different refusals", VERSION, HIGHER_IS_BETTER)


def compute(
    observations: Sequence[Observation], refusals: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> Measure:
    """Number of listed refusals that are nearest to a clean refusal by ROUGE-L F1; ``n`` is the number of clean refusals."""
    if not refusals:
        return unavailable(ABOUT, "no refusals are listed", "give token.targets=FILE")
    nearest = []
    for o in observations:
        listed = [text.replace(NAME_SLOT, (names or {}).get(o.fact_id, NAME_SLOT)) for text in refusals]
        if is_refusal(o.text, listed):
            clean = without_unlearning_tokens(o.text)
            nearest.append(max(range(len(listed)), key=lambda place: rouge_l_f1(clean, listed[place])))
    return ABOUT.measure(float(len(set(nearest))), len(nearest))


def columns(evidence: Evidence) -> Iterable[Column]:
    rows = evidence.rows(FORGET)
    if rows:
        yield Column(NAME, ABOUT.title, FORGET, DETAIL, compute(rows, evidence.refusals, evidence.names))
