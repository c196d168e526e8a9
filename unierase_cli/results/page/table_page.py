"""A page of sortable tables, for any command that ends in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unierase_cli.results.page.document import document, escaped, folded, listed, pairs, section
from unierase_cli.results.page.tables import SEARCHED, controls, table_html
from unierase_cli.results.table import Table


def table_page(
    title: str,
    tables: Sequence[Table],
    *,
    lead: str = "",
    filters: Sequence[str] = (),
    pictures: Sequence[str] = (),
    remarks: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> str:
    """A self-contained HTML page; write it with encoding utf-8. Every text is escaped.

    ``lead``: one sentence under the title. ``filters``: columns of which a reader may choose one value, such as ``("split",
    "method")``; a table without the column keeps all its rows. ``pictures``: HTML of this room, above the tables. ``remarks``:
    below the tables. ``about``: name -> text of where the numbers come from, folded at the end.

    A click on a header sorts; a column of ``Table.numeric`` by the first number of its cells, others by their text. Cells without a
    number come last in both directions.
    """
    shown = [table for table in tables if table.rows]
    names = [f"table-{number}" for number in range(len(shown))]
    body = "".join(table_html(t, name=n, filters=filters, heading="h2") for t, n in zip(shown, names, strict=True))
    choices = {
        f"f{number}": (column, [row[t.columns.index(column)] for t in shown if column in t.columns for row in t.rows])
        for number, column in enumerate(filters)
    }
    chosen = any(len(set(values)) > 1 for _, values in choices.values())
    above = controls(names, choices) if chosen or any(len(t.rows) >= SEARCHED for t in shown) else ""
    told = f'<p class="sentence">{escaped(lead)}</p>' if lead else ""
    return document(
        title,
        f"<header><h1>{escaped(title)}</h1>{told}</header><main>"
        + "".join(pictures)
        + above
        + body
        + section("remarks", "Remarks", listed(tuple(remarks)))
        + folded("Where these numbers come from", pairs(dict(about or {})))
        + "</main>",
    )
