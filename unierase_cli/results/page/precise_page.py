"""The page of a run that forgets its facts one by one, each from the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.metrics.scores import Precise
from unierase_cli.results.one_run.precise_tables import fact_table, precise_table
from unierase_cli.results.page.answers import Answer, answers_html
from unierase_cli.results.page.document import document, escaped, folded, section
from unierase_cli.results.page.headline import header_html
from unierase_cli.results.page.origin import origin_html
from unierase_cli.results.page.ranges import Range
from unierase_cli.results.page.tables import table_html

TILES = (
    ("fact_rouge", "Recall of the fact that is forgotten", "forget", "0: all forgotten"),
    ("near_rouge", "Recall of its neighbours", "keep", "1: all kept"),
    ("paraphrase_rouge", "Recall when asked in other words", "back", "0: all forgotten"),
)


def precise_page(
    title: str, found: Precise, facts: Sequence[Mapping[str, Any]], *, about: Mapping[str, str], settings: str
) -> str:
    """The page, from ``precise.json`` and ``facts.jsonl``."""
    measures = {measure.id: measure for measure in found.measures}
    tiles = []
    for name, label, kind, note in TILES:
        m = measures.get(name)
        if m is not None:
            tiles.append(Range(label, m.after, None, kind, m.before, m.unavailable or _change(m.ci95) or note))
    gone, near = measures.get("forgotten"), measures.get("near_rouge")
    told = f"{found.facts} facts, each forgotten on its own from the original model"
    told += "" if gone is None or gone.after is None else f": {gone.after * found.facts:.0f} are no longer answered"
    told += (
        "" if near is None or near.after is None else f", and of their neighbours' answers {near.after:.2f} is recalled"
    )
    told += "" if near is None or near.before is None else f" ({near.before:.2f} before)"
    answers = [
        Answer("forget", row["question"], row["true"], row["answer_before"], row["answer"], *_recalls(row))
        for row in facts
    ]
    numbers = table_html(precise_table(found)) + table_html(fact_table(facts))
    body = section("answers", "Answers before and after", answers_html(answers)) + section(
        "numbers", "All numbers", numbers
    )
    body += section(
        "origin", "Where the numbers come from", folded("Keys, versions and settings", origin_html(about, settings))
    )
    return document(title, f"{header_html(title, escaped(f'{told}.'), tiles)}<main>{body}</main>")


def _change(interval: tuple[float, float] | None) -> str:
    """The interval of ``precise.json`` is of the change."""
    return "" if interval is None else f"change {interval[0]:+.2f} to {interval[1]:+.2f} (95 %)"


def _recalls(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return row["fact_rouge"]["before"], row["fact_rouge"]["after"]
