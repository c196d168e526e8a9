"""Refusals by meaning: answers that are listed, or whose cosine to a listed refusal is at least 0.5 (UniErase's Idk).

Its encoder is all-MiniLM-L6-v2 (spec: metrics, section 5). Far more lenient than ``refusal_rate``: a refusal in other words counts,
and so does one that slides into something else. An answer without a word is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import MetricResult, Observation
from unierase_cli.metrics.base import About, Column, Evidence, unavailable
from unierase_cli.metrics.judged import judged_columns, judged_mean
from unierase_cli.metrics.judges import ENCODER, Judges
from unierase_cli.metrics.refusal_rate import without_unlearning_tokens

NAME = "refusal_by_embedding"
VERSION = 1
# On rows that should be kept; on the forget split every answer should be one.
HIGHER_IS_BETTER = False
ABOUT = About(NAME, "refusals by meaning", VERSION, HIGHER_IS_BETTER)
THRESHOLD = 0.5


def compute(
    observations: Sequence[Observation], refusals: Sequence[str] = (), judges: Judges | None = None
) -> MetricResult:
    """Share of answers that mean a listed refusal."""
    if not refusals:
        return unavailable(ABOUT, "no refusals are listed", "give token.targets=FILE")
    asked = judges or Judges()
    return judged_mean(ABOUT, lambda: [float(found) for found in are_refusals(observations, refusals, asked)])


def columns(evidence: Evidence) -> Iterable[Column]:
    return judged_columns(
        evidence, ABOUT, ENCODER, lambda rows: compute(rows, evidence.refusals, evidence.judges), turns=True
    )


def are_refusals(observations: Sequence[Observation], refusals: Sequence[str], judges: Judges) -> list[bool]:
    """Whether each row's text, unlearning tokens left out, is or means a listed refusal. Raises JudgeAbsent."""
    texts = [without_unlearning_tokens(o.text) for o in observations]
    if not texts:
        return []
    closest = (judges.encode(texts) @ judges.encode(refusals).T).max(axis=1)
    listed = {refusal.strip() for refusal in refusals}
    return [
        bool(text) and (text in listed or near >= THRESHOLD) for text, near in zip(texts, closest.tolist(), strict=True)
    ]
