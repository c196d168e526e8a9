"""A table as HTML: sortable by its headers, in a box that scrolls, with a search box and filters above several tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from unierase_cli.results.page.document import escaped
from unierase_cli.results.table import Table

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Lists with fewer items need no search box.
SEARCHED = 8


def table_html(table: Table, *, name: str = "", filters: Sequence[str] = (), heading: str = "h3") -> str:
    """A section with the table; ``name``: its id, for ``controls``; ``filters``: columns by whose text rows are filtered."""
    cells = list(enumerate(table.columns))
    numeric = [column in table.numeric for column in table.columns]
    head = "".join(
        f'<th scope="col"{_class(numeric[place])}><button type="button">{escaped(column) or "&nbsp;"}</button></th>'
        for place, column in cells
    )
    keys = [(f"f{n}", table.columns.index(column)) for n, column in enumerate(filters) if column in table.columns]
    lines = []
    for number, row in enumerate(table.rows):
        # A line without a text there (an unedited model) stays whatever is chosen.
        told = "".join(f' data-{key}="{escaped(row[place])}"' for key, place in keys if row[place])
        body = "".join(_cell(row[place], numeric[place], (number, place) in table.strong, place) for place, _ in cells)
        lines.append(f"<tr data-item{told}>{body}</tr>")
    title = f"<{heading}>{escaped(table.title)}</{heading}>" if table.title else ""
    caption = f'<p class="caption">{escaped(table.caption)}</p>' if table.caption else ""
    place = f' id="{escaped(name)}"' if name else ""
    return (
        f'<div class="table">{title}{caption}<div class="scroll" tabindex="0" role="region" aria-label="{escaped(table.title)}">'
        f'<table class="sortable"{place}><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div></div>'
    )


def controls(
    lists: Sequence[str], choices: Mapping[str, tuple[str, Iterable[str]]], boxes: Mapping[str, str] | None = None
) -> str:
    """A search box and filters for the lists with these ids.

    ``choices``: key -> (label, values); of a key that items have as ``data-KEY`` a reader may choose one value. A single value is
    no choice. ``boxes``: key -> label of a box to tick, for items with ``data-KEY="yes"``.
    """
    parts = ['<label>search <input type="search" autocomplete="off" spellcheck="false"></label>']
    for key, (label, values) in choices.items():
        options = "".join(
            f'<option value="{escaped(v)}">{escaped(v)}</option>' for v in dict.fromkeys(filter(None, values))
        )
        if options.count("<option") > 1:
            every = '<option value="">all</option>'
            parts.append(f'<label>{escaped(label)} <select name="{escaped(key)}">{every}{options}</select></label>')
    for key, label in (boxes or {}).items():
        parts.append(f'<label><input type="checkbox" name="{escaped(key)}"> {escaped(label)}</label>')
    return f'<form class="controls" data-controls="{escaped(" ".join(lists))}">{"".join(parts)}<output></output></form>'


def first_number(text: str) -> float | None:
    """The number that a cell is sorted by: ``0.074 ± 0.012`` by 0.074, ``n/a`` by none."""
    found = NUMBER.match(text.strip())
    return None if found is None else float(found.group())


def _cell(text: str, numeric: bool, strong: bool, place: int) -> str:
    told = f"<b>{escaped(text)}</b>" if strong else escaped(text)
    value = first_number(text) if numeric else None
    number = "" if value is None else f' data-value="{value:g}"'
    return (
        f'<th scope="row"{_class(numeric)}{number}>{told}</th>'
        if place == 0
        else f"<td{_class(numeric)}{number}>{told}</td>"
    )


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""
