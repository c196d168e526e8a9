"""A leaderboard as tables, csv, Markdown and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from unierase_cli.markdown import inline
from unierase_cli.metrics.statistics.paired import FLIPS
from unierase_cli.results.leaderboard.board import SHOWN, Board, Place
from unierase_cli.results.many_runs.rows import BALANCE, COST, ColumnSpec
from unierase_cli.results.many_runs.tables import cell
from unierase_cli.results.page.merged_table import METHOD, SPLIT, place_of
from unierase_cli.results.page.runs_page import frontiers
from unierase_cli.results.page.table_page import table_page
from unierase_cli.results.table import Table
from unierase_cli.results.two_runs.tables import SIGNIFICANT

CAPTION = (
    "Rank: by balance, the harmonic mean of 1 - forget ROUGE-L / the unedited model's and of retain never seen / the unedited "
    f"model's. Every two rows are compared on the same questions (sign-flip test, at least {FLIPS} patterns; p corrected for all "
    f"pairs of the table by Holm's method); rows that do not differ at {SIGNIFICANT} share ranks. The tests are about these "
    "questions; they do not cover variation between seeds. [..]: 95 % interval over questions; ±: standard deviation over seeds. "
    "Memorisation, Privacy, Utility and Overall as the UDS dashboard defines them (arXiv 2605.24614), 1 is best: harmonic means "
    "of how much of the facts is gone; of membership inference and UDS; of model utility and fluency, divided by the unedited "
    "model's; of these three. UDS and the verdict come from audits. Seconds (wall and CPU): erasing, including the token's "
    "training and the second moments. Peak memory: of the accelerator, else of the process up to the end of erasing."
)
LEAD = "Methods ranked by balance: rows that cannot be told apart on these questions share their ranks."
HEADS = {BALANCE: "balance", "seconds": "wall s", "cpu": "CPU s", "memory": "GiB"}
NARROW = {"Memorisation": "Memo-\nrisation"}
# The verdict stands between what a method reaches and what it costs.
COSTS = next(number for number, column in enumerate(SHOWN) if column.part == COST)
PLACE = ("benchmark", "split", "model", "mode")


def tables(boards: Sequence[Board], *, narrow: bool = False) -> list[Table]:
    """One table per board. ``narrow``: intervals and long headers in two lines, for a terminal."""
    return [_table(board, narrow) for board in boards]


def _table(board: Board, narrow: bool) -> Table:
    heads = [HEADS.get(column.id, column.title) for column in SHOWN]
    heads = [NARROW.get(head, head) for head in heads] if narrow else heads
    rows = []
    for place in board.places:
        values = [_cell(place, column, "\n" if narrow else " ") for column in SHOWN]
        values.insert(COSTS, place.verdict or "-")
        rows.append((place.rank, place.row.label, str(len(place.row.runs)), *values))
    columns = ("rank", "method", "seeds", *heads[:COSTS], "verdict", *heads[COSTS:])
    return Table(board.title, columns, tuple(rows), frozenset({"rank", "seeds", *heads}))


def page(title: str, boards: Sequence[Board]) -> str:
    """An HTML page whose tables a reader can sort, and filter by split and method."""
    pairs = [pairs_table(board) for board in boards if board.pairs]
    several = len({place_of(board.compared) for board in boards}) > 1
    return table_page(
        title,
        [*(_filtered(board, several) for board in boards), *pairs],
        lead=LEAD,
        filters=(SPLIT, METHOD),
        pictures=(frontiers([board.compared for board in boards]),),
        remarks=(CAPTION, *(f"{board.title}: {remark}" for board in boards for remark in board.remarks)),
        about={f"{row[0]}, seed {row[1]}": " ".join(row[2:]) for board in boards for row in runs_table(board).rows},
    )


def _filtered(board: Board, several: bool) -> Table:
    """As ``tables`` makes it, with the method in a column of its own, and the split if there are several."""
    table = _table(board, narrow=False)
    split = {SPLIT: place_of(board.compared)} if several else {}
    rows = tuple(
        (*cells[:2], place.row.method, *split.values(), *cells[2:])
        for place, cells in zip(board.places, table.rows, strict=True)
    )
    return Table(table.title, ("rank", "row", METHOD, *split, *table.columns[2:]), rows, table.numeric)


def _cell(place: Place, column: ColumnSpec, gap: str) -> str:
    value = place.row.values[column.id]
    if value.mean is None or value.ci95 is None or (value.sd is not None and column.id != BALANCE):
        return cell(value, column, f"{gap}± " if gap == " " else "\n±")
    return f"{value.mean:.3f}{gap}[{value.ci95[0]:.3f}, {value.ci95[1]:.3f}]"


def pairs_table(board: Board) -> Table:
    """The test of every pair of rows, the most certain difference first."""
    names = {place.row.number: place.row.label for place in board.places if place.row.number is not None}
    heads = ("B - A", "95 %", "p", "Holm")
    body = tuple(
        (
            names[pair.first],
            names[pair.second],
            f"{pair.difference:+.3f}",
            "" if pair.ci95 is None else f"{pair.ci95[0]:+.3f} .. {pair.ci95[1]:+.3f}",
            f"{pair.p:.4f}",
            f"{pair.holm:.4f}",
        )
        for pair in sorted(board.pairs, key=lambda pair: (pair.holm, -abs(pair.difference)))
    )
    return Table(f"Differences in balance: {board.title}", ("A", "B", *heads), body, frozenset(heads))


def to_csv(boards: Sequence[Board]) -> str:
    """One line per row with all digits; missing numbers are empty.

    Columns: ``<column>``, ``<column>.sd`` over seeds, ``<column>.low`` and ``.high``, the 95 % interval over questions.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = [name for c in SHOWN for name in (c.id, *(f"{c.id}.{part}" for part in ("sd", "low", "high")))]
    writer.writerow([*PLACE, "rank", "kind", "method", "label", "seeds", *numbers, "verdict"])
    for board in boards:
        for place in board.places:
            row = place.row
            values = [row.values[column.id] for column in SHOWN]
            found = [number for v in values for number in (v.mean, v.sd, *(v.ci95 or (None, None)))]
            where = [getattr(board, name) for name in PLACE]
            names = [place.rank, row.kind, row.method, row.label, " ".join(map(str, row.seeds))]
            writer.writerow([*where, *names, *("" if number is None else number for number in found), place.verdict])
    return stream.getvalue()


def to_markdown(title: str, boards: Sequence[Board]) -> str:
    """The tables, their caption, the pairs behind the ranks, the remarks, and the runs behind every row."""
    lines = [f"# {inline(title)}", "", *(table.markdown() for table in tables(boards)), CAPTION, ""]
    for board in boards:
        lines += [pairs_table(board).markdown()] if board.pairs else []
        if board.remarks:
            lines += [f"### Remarks: {inline(board.title)}", "", *(f"- {inline(remark)}" for remark in board.remarks), ""]
        lines.append(runs_table(board).markdown())
    return "\n".join(lines)


def runs_table(board: Board) -> Table:
    """The scores and audits behind every row."""
    rows = tuple(
        (place.row.label, str(run["seed"]), run["name"], run["key"][:12], ", ".join(place.audits))
        for place in board.places
        for run in place.row.runs
    )
    return Table(f"Runs: {board.title}", ("row", "seed", "score", "key", "audits"), rows, frozenset({"seed"}))
