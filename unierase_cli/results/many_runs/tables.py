"""Tables, remarks and csv of a comparison, from the content of ``comparison.json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from unierase_cli.markdown import inline
from unierase_cli.results.many_runs.rows import (
    BALANCE,
    COLUMNS,
    COST,
    EDITED,
    FORGETTING,
    RETENTION,
    ColumnSpec,
    Compared,
    Pooled,
    Row,
)
from unierase_cli.results.table import Table

# Short headers for the terminal.
NARROW = {
    "forget.rouge": "forget\nROUGE",
    "forget.probability": "forget\nprob.",
    "forget.truth_ratio": "truth\nratio",
    "forget.forget_quality": "forget\nqual.",
    "forget.unlearn_forbidden.leak": "[UNL]\nforbid.",
    "forget.paraphrased.leak": "para-\nphrased",
    "forget.answer_prefix.leak": "prefix\ngiven",
    "forget.refusal_rate": "clean\nrefus.",
    "forget.degenerate_output": "degen-\nerate",
    "retain_unseen.rouge": "never\nseen",
    "retain_near.rouge": "neigh-\nbours",
    "retain_protected.rouge": "pro-\ntected",
    "real_authors.rouge": "real\nauth.",
    "world_facts.rouge": "world\nfacts",
    "all.model_utility": "model\nutil.",
    "seconds": "time\ns",
    "balance": "bal-\nance",
    "memory": "memory\nGiB",
    "changed": "chan-\nged %",
}
PARTS = {"Forgetting": (FORGETTING,), "Retention and cost": (RETENTION, COST, BALANCE)}
# Labels may be folded to this many characters.
LABEL = 32
CAPTION = (
    "balance: harmonic mean of 1 - forget ROUGE-L / the unedited model's and of retain never seen / the unedited model's, each "
    "clipped to 0..1; rows are sorted by it. Bold: the best of the edited models. ±: standard deviation over seeds. [UNL] "
    "forbidden, question paraphrased, answer prefix given: forget ROUGE-L when asked so. Retention: ROUGE-L. Time: erasing, "
    "including the token's training and the second moments if there are any. Peak memory: of the accelerator, else of the "
    "process up to the end of erasing."
)


def tables(compared: Compared, *, width: int) -> list[Table]:
    """Tables for a terminal of ``width`` characters: one if it fits, else two with the same rows (forgetting; retention and cost).

    Headers and ``mean ± sd`` are broken into two lines. If long labels leave no room for the numbers, a table of the
    labels comes first, and the others name a row by its number and method.
    """
    whole = _table(compared, "", tuple(part for parts in PARTS.values() for part in parts), narrow=True)
    if _least_width(whole) <= width:
        return [whole]
    two = [_table(compared, name, parts, narrow=True) for name, parts in PARTS.items()]
    if max(map(_least_width, two)) <= width:
        return two
    return [_legend(compared), *(_table(compared, n, parts, narrow=True, numbers=True) for n, parts in PARTS.items())]


def row_name(row: Row) -> str:
    """The row's number and label."""
    return row.label if row.number is None else f"{row.number} {row.label}"


def cell(value: Pooled, column: ColumnSpec, plus_minus: str = " ± ") -> str:
    """``0.074 ± 0.012``; ``n/a`` if a remark gives the reason; a dash if the column does not apply."""
    if value.mean is None:
        return "n/a" if value.unavailable else "-"
    text = _number(value.mean, column.unit)
    if value.sd is None:
        return text
    spread = f"{value.sd:.3f}" if column.unit == "rate" and "e" not in text else _number(value.sd, column.unit)
    return f"{text}{plus_minus}{spread}"


def _table(
    compared: Compared, name: str, parts: Sequence[str], *, narrow: bool, numbers: bool = False
) -> Table:
    columns = [column for column in COLUMNS if column.part in parts]
    heads = tuple(NARROW.get(c.id, c.title) if narrow else c.title for c in columns)
    with_seeds = FORGETTING in parts and not numbers
    rows = []
    for row in compared.rows:
        label = f"{row.number or ''} {row.method or row.kind.replace('_', '-')}".strip() if numbers else row_name(row)
        cells = [cell(row.values[c.id], c, "\n±" if narrow else " ± ") for c in columns]
        rows.append((label, *([str(len(row.runs))] if with_seeds else []), *cells))
    first = ("", "seeds") if with_seeds else ("",)
    strong = frozenset(best_cells(compared.rows, columns, len(first)))
    title = f"{name}: {_place(compared)}" if name else _place(compared)
    return Table(title, (*first, *heads), tuple(rows), frozenset({*first[1:], *heads}), "", strong)


def _legend(compared: Compared) -> Table:
    rows = tuple((row_name(row), " ".join(map(str, row.seeds))) for row in compared.rows)
    return Table(f"Rows: {_place(compared)}", ("", "seeds"), rows)


def _place(compared: Compared) -> str:
    return f"{compared.benchmark} {compared.split}, {compared.model}, {compared.mode} mode"


def _least_width(table: Table) -> int:
    """Width after folding long labels."""
    label = max(len(row[0]) for row in table.rows)
    return table.width() - max(0, label - LABEL)


def remarks_on(rows: Sequence[Row], columns: Sequence[ColumnSpec] = COLUMNS) -> list[str]:
    """One sentence per reason for unavailable values, with all rows and columns that it applies to."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        lacking: dict[str, list[Row]] = {}
        for row in rows:
            if reason := row.values[column.id].unavailable:
                lacking.setdefault(reason, []).append(row)
        for reason, where in lacking.items():
            reasons.setdefault((reason, _rows_in_words(where, rows)), []).append(column.title)
    return [f"n/a in {', '.join(titles)} of {where}: {reason}" for (reason, where), titles in reasons.items()]


def to_csv(compared: Sequence[Compared]) -> str:
    """One line per row with all digits.

    Columns: ``<column>``, ``<column>.sd`` over seeds, and ``<column>.low`` and ``.high``, the 95 % interval over rows
    of a single seed. Missing numbers are empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = [name for column in COLUMNS for name in (column.id, *(f"{column.id}.{part}" for part in ("sd", "low", "high")))]
    writer.writerow(["benchmark", "split", "model", "mode", "row", "kind", "method", "label", "seeds", *numbers])
    for table in compared:
        place = [table.benchmark, table.split, table.model, table.mode]
        for row in table.rows:
            values = [row.values[column.id] for column in COLUMNS]
            found = [number for v in values for number in (v.mean, v.sd, *(v.ci95 or (None, None)))]
            seeds = " ".join(str(seed) for seed in row.seeds)
            names = [row.number or "", row.kind, row.method, row.label, seeds]
            writer.writerow([*place, *names, *("" if value is None else value for value in found)])
    return stream.getvalue()


def to_markdown(title: str, compared: Sequence[Compared], picture: str | None) -> str:
    """The tables, their caption, the picture, the remarks, and the runs behind every row."""
    lines = [f"# {inline(title)}", ""]
    for table in compared:
        lines += [_table(table, name, parts, narrow=False).markdown() for name, parts in PARTS.items()]
    lines += [CAPTION, ""]
    if picture:
        lines += [f"![forgetting against retention]({picture})", ""]
        lines += ["Bars: one standard deviation over seeds to either side; for a single seed the 95 % interval over rows.", ""]
    for table in compared:
        mode = f" ({table.mode} mode)" if len(compared) > 1 else ""
        if table.remarks:
            lines += [f"### Remarks{inline(mode)}", "", *(f"- {inline(remark)}" for remark in table.remarks), ""]
        runs = tuple((row_name(r), str(run["seed"]), run["name"], run["key"][:12]) for r in table.rows for run in r.runs)
        lines.append(Table(f"Runs{mode}", ("row", "seed", "score", "key"), runs, frozenset({"seed"})).markdown())
    return "\n".join(lines)


def _rows_in_words(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """``every row``, or ``unedited model, rows 1-3, 5``; a single row is named by its label."""
    if len(some) == len(rows):
        return "every row"
    words = [row.label for row in some if row.number is None]
    edited = [row for row in some if row.number is not None]
    if len(edited) == 1:
        return ", ".join([*words, f"row {row_name(edited[0])}"])
    spans: list[list[int]] = []
    for number in sorted(row.number for row in edited if row.number is not None):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    told = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
    return ", ".join([*words, *([f"rows {told}"] if spans else [])])


def best_cells(rows: Sequence[Row], columns: Sequence[ColumnSpec], before: int) -> Iterator[tuple[int, int]]:
    """(row, column) of all edited models that show the best number of a column, unless all of them do."""
    for place, column in enumerate(columns):
        shown = {n: row.values[column.id].mean for n, row in enumerate(rows) if row.kind == EDITED}
        means = {number: mean for number, mean in shown.items() if mean is not None}
        if not means:
            continue
        best = _number((max if column.higher_is_better else min)(means.values()), column.unit)
        winners = [number for number, mean in means.items() if _number(mean, column.unit) == best]
        if len(winners) < len(means):
            yield from ((number, before + place) for number in winners)


def _number(value: float, unit: str) -> str:
    if unit == "seconds":
        return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
    if unit != "rate":
        return f"{value:.2f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.0e}"
