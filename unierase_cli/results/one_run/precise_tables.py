"""Tables of facts that were erased one by one, from ``precise.json`` and ``facts.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.metrics.scores import Precise
from unierase_cli.results.one_run.tables import interval
from unierase_cli.results.table import Table

COLUMNS = ("", "before", "after", "change", "95 % interval", "facts")
LISTED = 20


def precise_table(found: Precise) -> Table:
    """The measures over all facts."""
    body = tuple(
        (
            measure.title,
            _number(measure.before),
            "n/a" if measure.after is None else _number(measure.after),
            "" if measure.change is None else f"{measure.change:+.3f}",
            interval(measure.ci95, signed=measure.change is not None),
            str(measure.n or ""),
        )
        for measure in found.measures
    )
    caption = f"{found.facts} facts, each forgotten by itself from the original model; neighbours share its group or subject."
    return Table("One fact at a time", COLUMNS, body, frozenset(COLUMNS[1:]), caption)


def fact_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The facts, first those whose neighbours lost most, then those that were not forgotten."""
    worst = sorted(rows, key=lambda row: (_change(row["near_rouge"]), row["forgotten"]["after"] or 0.0))[:LISTED]
    columns = ("fact", "question", "answer", "ROUGE-L recall", "neighbours", "far facts")
    body = tuple(
        (
            *(row[name] for name in ("fact", "question", "answer")),
            "n/a" if row["fact_rouge"]["after"] is None else f"{row['fact_rouge']['after']:.3f}",
            *(_shown(row[name]) for name in ("near_rouge", "far_rouge")),
        )
        for row in worst
    )
    title = f"The {len(worst)} facts whose neighbours lost most" if len(rows) > len(worst) else "Fact by fact"
    return Table(title, columns, body, frozenset(columns[3:]), "Neighbours and far facts: change of ROUGE-L recall.")


def _change(pair: Mapping[str, Any] | None) -> float:
    return 0.0 if pair is None or pair["after"] is None else pair["after"] - pair["before"]


def _shown(pair: Mapping[str, Any] | None) -> str:
    if pair is not None and pair["after"] is None:
        return "n/a"
    return "" if pair is None else f"{_change(pair):+.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
