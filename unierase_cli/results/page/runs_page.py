"""The page of many runs: who forgets most and keeps most, as a picture and as tables to sort and filter; curves of sequences."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.results.many_runs.rows import (
    BALANCE,
    COST,
    EDITED,
    FORGET,
    FORGETTING,
    KEPT,
    RETENTION,
    SO_FAR,
    Compared,
    Pooled,
    Row,
)
from unierase_cli.results.many_runs.tables import CAPTION, row_name
from unierase_cli.results.page.curves import Curve, curves
from unierase_cli.results.page.document import document, escaped, folded, listed, pairs, section
from unierase_cli.results.page.merged_table import METHOD, MODE, SPLIT, merged_table, place_of
from unierase_cli.results.page.scatter import COLOURS, Dot, scatter
from unierase_cli.results.page.svg import Axis
from unierase_cli.results.page.tables import controls, table_html

TABLES = {"Forgetting": (BALANCE, FORGETTING), "Retention and cost": (BALANCE, RETENTION, COST)}
FRONTIERS = "frontiers"
# From 0 to 1, with room for marks at the ends.
ROOM = (-0.03, 1.03)
BARS = (
    "The upper left corner is best. A number is a line of the tables. Bars: one standard deviation over seeds; of a single seed "
    "the 95 % interval over rows."
)


def runs_page(compared: Sequence[Compared]) -> str:
    """The page, from the tables of one or several comparisons. ``split`` is the benchmark's, with the benchmark and the model."""
    title = f"Comparison: {', '.join(dict.fromkeys(map(place_of, compared)))}"
    lists = [FRONTIERS, *(f"table-{n}" for n in range(len(TABLES)))]
    rows = [(table, row) for table in compared for row in table.rows if row.kind == EDITED]
    choices = {
        "f0": (SPLIT, [place_of(table) for table in compared]),
        "f1": (MODE, [table.mode for table in compared]),
        "f2": (METHOD, [row.method for _, row in rows]),
    }
    tables = "".join(
        table_html(merged_table(compared, name, parts), name=lists[n + 1], filters=(SPLIT, MODE, METHOD))
        for n, (name, parts) in enumerate(TABLES.items())
    )
    remarks = list(dict.fromkeys(remark for table in compared for remark in table.remarks))
    keys = {
        f"{row_name(row)}, seed {run['seed']}": f"{run['name']}, key {run['key']}"
        for _, row in rows
        for run in row.runs
    }
    parts = [
        controls(lists, choices),
        frontiers(compared),
        section("sequences", "Request by request", "".join(map(_sequences, compared))),
        section("tables", "Tables", tables, "A click on a header sorts. Lines without a number come last."),
        f'<p class="note">{escaped(CAPTION)}</p>',
        section("remarks", "Remarks", folded(f"{len(remarks)} remarks", listed(remarks)) if remarks else ""),
        section("origin", "Where the numbers come from", folded("Runs and keys", pairs(keys))),
    ]
    kind = "sentence" if len(compared) == 1 else "found"
    told = "".join(f'<p class="{kind}">{escaped(_sentence(table))}</p>' for table in compared)
    top = f"<header><h1>{escaped(title)}</h1>{told}</header>"
    return document(title, f"{top}<main>{''.join(parts)}</main>")


def _sentence(compared: Compared) -> str:
    """The configuration with the best balance; rows are sorted by it."""
    rows = [row for row in compared.rows if row.kind == EDITED]
    best = next((row for row in rows if row.values["balance"].mean is not None), None)
    where = f"{place_of(compared)}, {compared.mode} mode"
    if best is None:
        return f"On {where} no run has the numbers to be compared by."
    forget, kept = best.values[FORGET].mean, best.values[KEPT].mean
    told = f"{best.label} on {where}"
    if len(rows) > 1:
        told = f"Of {len(rows)} configurations on {where}, {best.label} has the best balance"
    return f"{told}: it recalls {forget:.2f} of what it should forget and {kept:.2f} of what it should keep."


def frontiers(compared: Sequence[Compared]) -> str:
    """One picture for each split and model, with all modes."""
    places = list(dict.fromkeys(map(place_of, compared)))
    several = len({table.mode for table in compared}) > 1
    pictures = ""
    for place in places:
        tables = [table for table in compared if place_of(table) == place]
        dots = {dot.about: dot for table in tables for row in table.rows if (dot := _dot(table, row, several))}
        drawn = scatter(
            f"Forgetting against retention: {place}" if len(places) > 1 else "Forgetting against retention",
            list(dots.values()),
            Axis("forget set: recall (left is forgotten)", *ROOM),
            Axis("retain, never seen: recall (up is kept)", *ROOM),
            notes=[BARS],
        )
        pictures += f'<div data-item data-f0="{escaped(place)}">{drawn}</div>' if drawn else ""
    return f'<div id="{FRONTIERS}" data-uncounted>{pictures}</div>'


def _dot(table: Compared, row: Row, several: bool) -> Dot | None:
    forget, kept = row.values[FORGET], row.values[KEPT]
    if forget.mean is None or kept.mean is None:
        return None
    mode = f" ({table.mode})" if several and row.kind == EDITED else ""
    keys = {"f1": table.mode, "f2": row.method} if row.kind == EDITED else {}
    about = f"{row_name(row)}{mode}: forget {_told(forget)}, retain {_told(kept)}"
    mark = str(row.number) if row.number is not None else ""
    return Dot(
        row.label + mode, forget.mean, kept.mean, spread_of(forget), spread_of(kept), row.method, mark, about, keys
    )


def spread_of(value: Pooled) -> tuple[float, float] | None:
    """One standard deviation over seeds to either side, or for a single seed the 95 % interval over rows."""
    return value.ci95 if value.sd is None or value.mean is None else (value.mean - value.sd, value.mean + value.sd)


def _told(value: Pooled) -> str:
    spread = spread_of(value)
    between = "" if spread is None else f" ({spread[0]:.3f} to {spread[1]:.3f})"
    return f"{value.mean:.3f}{between}"


def _sequences(compared: Compared) -> str:
    """Two pictures: all requests so far, and what was to be kept, a curve for each configuration."""
    rows = [row for row in compared.rows if row.steps]
    drawn = ""
    for title, column in (("Requests so far: low is good", SO_FAR), ("Retain, never seen: high is good", KEPT)):
        lines = [
            Curve(row_name(row), row.steps[column], f"c{place % COLOURS}")
            for place, row in enumerate(rows)
            if column in row.steps
        ]
        notes = [place_of(compared), "Bands: 95 % intervals. 0: the unedited model. Of several seeds the first."]
        drawn += curves(title, lines, "requests served", "recall", notes)
    return f'<div class="beside">{drawn}</div>' if drawn else ""
