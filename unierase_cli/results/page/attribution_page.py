"""The page of `unierase attribute`: answers with every token coloured by its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.results.page.document import document, escaped
from unierase_cli.results.page.tables import SEARCHED, controls

LEAD = (
    "The darker a token, the more of the fact it carries, and the more it counts in unlearning: its probability falls most when "
    "the subject of the question is masked, or nothing but the subject decides it. Weights have a mean of 1 in every answer."
)
LIST = "answers"


def attribution_page(title: str, rows: Sequence[Mapping[str, Any]], questions: Sequence[str] | None) -> str:
    """``rows``: of attribution.jsonl, one per question; write the page with encoding utf-8. None: texts are hidden, ids and
    weights shown.
    """
    shown = [None] * len(rows) if questions is None else questions
    articles = "".join(_article(row, question) for row, question in zip(rows, shown, strict=True))
    above = controls([LIST], {}) if len(rows) >= SEARCHED else ""
    return document(
        title,
        f'<header><h1>{escaped(title)}</h1><p class="lead">{escaped(LEAD)}</p></header>'
        f'<main>{above}<div class="answers" id="{LIST}">{articles}</div></main>',
    )


def _article(row: Mapping[str, Any], question: str | None) -> str:
    most = max(row["weights"])
    tokens = row["tokens"] if question is not None else [f"{number} " for number in range(1, len(row["tokens"]) + 1)]
    spans = "".join(_span(text, weight, most) for text, weight in zip(tokens, row["weights"], strict=True))
    meta = f'<p class="meta">{escaped(row["fact"])}, largest weight {most:.1f}</p>'
    return f'<article data-item><h3>{escaped(question or row["fact"])}</h3><p class="said">{spans}</p>{meta}</article>'


def _span(text: str, weight: float, most: float) -> str:
    share = 100 * weight / most if most else 0.0
    return f'<span class="weight" style="--share:{share:.0f}%" title="{weight:.2f}">{escaped(text)}</span>'
