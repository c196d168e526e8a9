"""Makes a leaderboard over finished runs: an artefact with table.md, table.csv, leaderboard.json and leaderboard.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from unierase_cli.contracts import Reporter
from unierase_cli.pipeline.stage import LEADERBOARD
from unierase_cli.results.leaderboard.aggregates import audits_of
from unierase_cli.results.leaderboard.board import FURTHER, Board, Boards, boards_of
from unierase_cli.results.leaderboard.tables import page, to_csv, to_markdown
from unierase_cli.results.many_runs.groups import Group, find_groups
from unierase_cli.results.many_runs.rows import COLUMNS, EDITED
from unierase_cli.results.over_runs import over_runs
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as, write_json

VERSION = 2
DATA, TEXT, SHEET, PAGE = "leaderboard.json", "table.md", "table.csv", "leaderboard.html"
AGAIN = "unierase leaderboard RUN RUN --force makes it again"


def make_leaderboard(
    store: Store,
    words: Sequence[str],
    *,
    retain: Sequence[str] = (),
    reporter: Reporter,
    command: Sequence[str] = (),
    force: bool = False,
) -> Artefact:
    """The leaderboard of the runs that ``words`` mean, one table per benchmark, split, model and mode.

    ``retain``: scored runs of a model that never saw the forget set. Raises UserError for a word that means no scored run.
    """
    groups = find_groups(store, words, retain)
    runs = {f"run {n}": run for n, run in enumerate(run for group in groups for run in group.runs)}
    kept = {f"retain {n}": run for n, run in enumerate(run for group in groups for run in group.retain)}
    audited = audits_of(store, list(runs.values()))
    audits = {artefact.full_name: artefact for one in audited.values() for artefact in one.artefacts}
    inputs = {name: run.score for name, run in (runs | kept).items()} | {f"audit {n}": a for n, a in enumerate(audits.values())}

    def write(folder: Path) -> dict[str, Any]:
        boards = [board for group in groups for board in boards_of(store, group, audited)]
        _write(folder, boards)
        rows = sum(place.row.kind == EDITED for board in boards for place in board.places)
        return {
            "warnings": [remark for board in boards for remark in board.remarks],
            "summary": {"runs": len(runs), "rows": rows, "tables": len(boards), "files": [TEXT, SHEET, DATA, PAGE]},
        }

    return over_runs(
        store,
        LEADERBOARD,
        _slug(groups),
        version=VERSION,
        identity={
            "runs": sorted((run.name, run.score.key) for run in runs.values()),
            "retain": sorted((run.name, run.score.key) for run in kept.values()),
            "audits": sorted(artefact.key for artefact in audits.values()),
        },
        inputs=inputs,
        write=write,
        reporter=reporter,
        command=command,
        force=force,
    )


def read_leaderboard(artefact: Artefact) -> Boards:
    """``leaderboard.json`` of a leaderboard. Raises UserError if it is damaged."""
    return read_as(artefact.file(DATA), Boards, AGAIN)


def _write(folder: Path, boards: Sequence[Board]) -> None:
    columns = [column._asdict() for column in (*COLUMNS, *FURTHER)]
    write_json(folder / DATA, {"columns": columns, **to_builtins(Boards(tables=list(boards)))})
    (folder / SHEET).write_text(to_csv(boards), "utf-8")
    (folder / TEXT).write_text(to_markdown("Leaderboard", boards), "utf-8")
    (folder / PAGE).write_text(page("Leaderboard", boards), "utf-8")


def _slug(groups: Sequence[Group]) -> str:
    return groups[0].slug if len(groups) == 1 else f"{groups[0].slug}-and-{len(groups) - 1}"
