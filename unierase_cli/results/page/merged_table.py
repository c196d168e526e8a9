"""The tables of one or several comparisons as one, for a page where a reader sorts and filters it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unierase_cli.results.many_runs.rows import COLUMNS, EDITED, Compared, Row
from unierase_cli.results.many_runs.tables import best_cells, cell, row_name
from unierase_cli.results.table import Table

SPLIT, MODE, METHOD, SEEDS = "split", "mode", "method", "seeds"


def merged_table(compared: Sequence[Compared], name: str, parts: Sequence[str]) -> Table:
    """All lines, with the method as a column, and the split and the mode where they differ.

    ``parts``: of ``rows.COLUMNS``, in the order that their columns take. Columns without a number are left out. The best of each
    table is bold.
    """
    lines = list(_lines(compared))
    columns = [c for c in COLUMNS if c.part in parts and any(row.values[c.id].mean is not None for _, _, row in lines)]
    columns.sort(key=lambda column: parts.index(column.part))
    differing = {SPLIT: len(set(map(place_of, compared))) > 1, MODE: len({table.mode for table in compared}) > 1}
    names = ["", *(column for column, differs in differing.items() if differs), METHOD, SEEDS]
    best = {id(table): set(best_cells(table.rows, columns, len(names))) for table in compared}
    rows: list[tuple[str, ...]] = []
    strong: set[tuple[int, int]] = set()
    for table, number, row in lines:
        told = {"": row_name(row), SPLIT: place_of(table), METHOD: row.method, SEEDS: str(len(row.runs))}
        told[MODE] = table.mode if row.kind == EDITED else ""
        strong |= {(len(rows), column) for line, column in best[id(table)] if line == number}
        rows.append((*(told[column] for column in names), *(cell(row.values[c.id], c) for c in columns)))
    heads = tuple(column.title for column in columns)
    return Table(name, (*names, *heads), tuple(rows), frozenset({SEEDS, *heads}), "", frozenset(strong))


def place_of(compared: Compared) -> str:
    """What the runs of a table have in common, but for their mode."""
    return f"{compared.benchmark} {compared.split}, {compared.model}"


def _lines(compared: Sequence[Compared]) -> Iterator[tuple[Compared, int, Row]]:
    """Every line with its table and its number there; an unedited model once for each split."""
    seen: set[tuple[str, str]] = set()
    for table in compared:
        for number, row in enumerate(table.rows):
            place = (place_of(table), row.label)
            if row.kind != EDITED and place in seen:
                continue
            seen.add(place)
            yield table, number, row
