"""The content of ``leaderboard.json``: one table per benchmark, split, model and mode, with a ranked row per configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from unierase_cli.results.leaderboard.aggregates import (
    DEPTH,
    MEMORISATION,
    PRIVACY,
    RELATIVE_UTILITY,
    TOTAL,
    Audited,
    unlike_audits,
    with_aggregates,
)
from unierase_cli.results.leaderboard.ranks import RowPair, balance_interval, entry_of, ranks_of, tested_pairs
from unierase_cli.results.many_runs.comparison import unlike_asked, unlike_numbers
from unierase_cli.results.many_runs.groups import NO_RETAIN, Group
from unierase_cli.results.many_runs.rows import (
    BALANCE,
    COLUMNS,
    COST,
    EDITED,
    FORGETTING,
    ColumnSpec,
    Compared,
    Row,
    compare_table,
)
from unierase_cli.results.many_runs.tables import remarks_on
from unierase_cli.store.artefacts import Store

# Of the edited model alone: they compare it with others.
COMPARED = "compared"
FURTHER = (
    ColumnSpec(MEMORISATION, "Memorisation", FORGETTING, True),
    ColumnSpec(DEPTH, "UDS", COMPARED, True),
    ColumnSpec(PRIVACY, "Privacy", COMPARED, True),
    ColumnSpec(RELATIVE_UTILITY, "Utility", COMPARED, True),
    ColumnSpec(TOTAL, "Overall", COMPARED, True),
    ColumnSpec("cpu", "CPU seconds", COST, False, "seconds"),
)
# In the table's order.
SHOWN = tuple(
    next(column for column in (*COLUMNS, *FURTHER) if column.id == wanted)
    for wanted in (BALANCE, MEMORISATION, PRIVACY, DEPTH, RELATIVE_UTILITY, TOTAL, "seconds", "cpu", "memory")
)


class Place(Struct, kw_only=True):
    """A row of a leaderboard. ``row``: its numbers, by column; ``rank``: ``1`` or ``2–3``, empty for unedited models and for rows
    without a balance; ``audits``: full names of the audits that ``verdict`` comes from.
    """

    row: Row
    rank: str = ""
    verdict: str = ""
    audits: list[str] = []


class Board(Struct, kw_only=True):
    """One table; ``pairs``: the test of every pair of ranked rows."""

    benchmark: str
    split: str
    model: str
    mode: str
    places: list[Place]
    pairs: list[RowPair]
    remarks: list[str]

    @property
    def title(self) -> str:
        return f"{self.benchmark} {self.split}, {self.model}, {self.mode} mode"

    @property
    def compared(self) -> Compared:
        """As a table of a comparison."""
        place = {"benchmark": self.benchmark, "split": self.split, "model": self.model, "mode": self.mode}
        return Compared(**place, rows=[one.row for one in self.places], remarks=self.remarks)


class Boards(Struct, kw_only=True):
    """``leaderboard.json``."""

    format: int = 1
    tables: list[Board]


def boards_of(store: Store, group: Group, audited: Mapping[str, Audited]) -> list[Board]:
    """A board for each mode. ``audited``: run's name -> its audits. Raises UserError for damaged observations."""
    group = Group(group.benchmark, group.split, group.model, group.slug, with_aggregates(group.runs, audited), group.retain)
    found = []
    for mode, runs in group.modes().items():
        rows, remarks = compare_table(runs, group.retain, FURTHER)
        by_name = {run.name: run for run in runs}
        entries = {row.number: entry_of([by_name[run["name"]] for run in row.runs]) for row in rows if row.number is not None}
        for row in rows:
            if row.number is not None:
                interval = balance_interval(entries[row.number])
                row.values[BALANCE] = structs.replace(row.values[BALANCE], ci95=interval)
        ranked = [row.number for row in rows if row.number is not None and row.values[BALANCE].mean is not None]
        pairs, refused = tested_pairs(store, {number: entries[number] for number in ranked})
        ranks = ranks_of(ranked, pairs)
        places = [_place(row, ranks, audited) for row in rows]
        told = [*remarks_on(rows, SHOWN), *refused, *remarks, *unlike_numbers(runs), *unlike_asked([*runs, *group.retain])]
        told += [] if group.retain else [NO_RETAIN]
        told += unlike_audits([audited[run["name"]] for row in rows if row.kind == EDITED for run in row.runs])
        if unmeasured := [run.name for run in runs if audited[run.name].depth is None]:
            told.append(f"these runs have no UDS yet; measure it with: unierase audit {' '.join(unmeasured)} --attacks standard")
        where = {"benchmark": group.benchmark, "split": group.split, "model": group.model, "mode": mode}
        found.append(Board(**where, places=places, pairs=pairs, remarks=list(dict.fromkeys(told))))
    return found


def _place(row: Row, ranks: Mapping[int, tuple[int, int]], audited: Mapping[str, Audited]) -> Place:
    if row.kind != EDITED:
        return Place(row=row)
    found = [audited[run["name"]] for run in row.runs]
    names = [one.artefact.full_name for one in found if one.artefact is not None]
    place = ranks.get(row.number or 0)
    return Place(row=row, rank=_range(place) if place else "", verdict=verdict_of(found), audits=names)


def verdict_of(audits: Sequence[Audited]) -> str:
    """The audits' verdict, counted where the seeds' differ or not all were audited; empty where none was."""
    words = Counter(one.audit.kind for one in audits if one.audit is not None)
    if not words:
        return ""
    if words.total() == len(audits) and len(words) == 1:
        return next(iter(words))
    return ", ".join(f"{word} ({count} of {len(audits)} seeds)" for word, count in words.most_common())


def _range(ranks: tuple[int, int]) -> str:
    best, worst = ranks
    return str(best) if best == worst else f"{best}–{worst}"
