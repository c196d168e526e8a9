"""Tables of a rerun: artefacts, metrics that differ, other changes, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unierase_cli.rerun.verdict import BITS, KEPT, NUMBERS, OTHER
from unierase_cli.results.table import Table

WORDS = {BITS: "equal bits", NUMBERS: "numbers differ", OTHER: "differs", KEPT: "not made again"}
# Number of metrics listed, those that differ most first.
SHOWN = 20
LONG = 40


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The tables of ``verdict.result``; empty tables are left out."""
    made = [_artefacts(found), _files(found), _metrics(found), _changes(found)]
    return [table for table in made if table.rows]


def verdict(found: Mapping[str, Any]) -> str:
    """Whether the results are the same, by which criterion, and why equal bits are not promised."""
    apart = sum(row["difference"] != 0.0 for row in found["metrics"])
    count = len(found["metrics"])
    metrics = f"; {count - apart} of {count} metrics are equal to the bit" if count else ""
    if found["promise"] == BITS:
        return ("the same, bit for bit" if found["same"] else "not the same, bit for bit") + metrics
    other = f" (equal bits are not promised: {', '.join(found['because'])})" if found["because"] else ""
    return f"{'' if found['same'] else 'not '}the same to {found['tolerance']:g}{other}{metrics}"


def _artefacts(found: Mapping[str, Any]) -> Table:
    body = []
    for row in found["artefacts"]:
        then, now = Path(row["then"]), Path(row["now"])
        new = "" if row["same"] == KEPT else now.name
        body.append((row["stage"], then.parent.name, then.name, new, WORDS[row["same"]], _size(row["largest"])))
    columns = ("stage", "name", "then", "now", "", "largest difference")
    return Table("Artefacts", columns, tuple(body), frozenset({"largest difference"}))


def _files(found: Mapping[str, Any]) -> Table:
    body = tuple(
        (row["stage"], file["file"], f"{file['numbers'] or ''}", _size(file["largest"]), file["other"])
        for row in found["artefacts"]
        for file in row["files"]
    )
    numbers = frozenset({"numbers", "largest difference"})
    return Table("Files that differ", ("stage", "file", "numbers", "largest difference", "other"), body, numbers)


def _metrics(found: Mapping[str, Any]) -> Table:
    apart = [row for row in found["metrics"] if row["difference"] != 0.0]
    apart.sort(key=lambda row: (row["difference"] is not None, -(row["difference"] or 0.0), row["name"]))
    body = tuple((row["name"], _number(row["then"]), _number(row["now"]), _size(row["difference"])) for row in apart[:SHOWN])
    more = f"{len(apart) - SHOWN} more with --json" if len(apart) > SHOWN else ""
    columns = ("metric", "then", "now", "difference")
    return Table("Metrics that differ", columns, body, frozenset(columns[1:]), more)


def _changes(found: Mapping[str, Any]) -> Table:
    body = tuple((row["what"], _short(row["then"]), _short(row["now"])) for row in found["changes"])
    return Table("Changes", ("what", "then", "now"), body)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.9g}"


def _size(value: float | None) -> str:
    return "" if value == 0.0 else "n/a" if value is None else f"{value:.2g}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONG else text[: LONG - 3] + "..."
