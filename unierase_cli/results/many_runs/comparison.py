"""Compares many finished runs in one table: methods side by side, seeds pooled, with the unedited model on top.

``comparison.json`` is ``{"format": 1, "columns": [...], "tables": [rows.Compared]}``, one table per mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from unierase_cli.contracts import Reporter
from unierase_cli.pipeline.stage import COMPARISON
from unierase_cli.results.many_runs.groups import NO_RETAIN, Group, find_groups
from unierase_cli.results.many_runs.rows import COLUMNS, EDITED, FORGET, KEPT, Compared, compare_table
from unierase_cli.results.many_runs.tables import remarks_on, to_csv, to_markdown
from unierase_cli.results.over_runs import over_runs
from unierase_cli.results.page.runs_page import runs_page, spread_of
from unierase_cli.results.runs import ScoredRun, unlike_scored
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import write_json

NAME = COMPARISON
VERSION = 5
FORMAT = 1
DATA, TEXT, SHEET, PICTURE = "comparison.json", "comparison.md", "comparison.csv", "forgetting-retention.png"
PAGE = "comparison.html"


class Comparison(Struct):
    """The part of ``comparison.json`` that is read."""

    tables: list[Compared]


def compare_runs(
    store: Store,
    words: Sequence[str],
    *,
    retain: Sequence[str] = (),
    reporter: Reporter,
    command: Sequence[str] = (),
    force: bool = False,
) -> list[Artefact]:
    """A comparison artefact for each (benchmark, split, model) among the runs, reused if the same scores were compared before.

    ``words``: RUNs and patterns. ``retain``: scored runs of a model that never saw the forget set; runs of a model that
    the finetune stage trained only on the retain rows are added automatically. Raises UserError for a word that means
    no scored run.
    """
    return [_make(store, group, reporter, command, force) for group in find_groups(store, words, retain)]


def _make(store: Store, group: Group, reporter: Reporter, command: Sequence[str], force: bool) -> Artefact:
    runs, retain = group.runs, group.retain
    named = {name: sorted((r.name, r.score.key) for r in part) for name, part in (("runs", runs), ("retain", retain))}
    # The same scores may have got a trajectory since.
    if steps := {run.score.key: hash_json(to_builtins(run.steps)) for run in runs if run.steps is not None}:
        named["steps"] = sorted(steps.items())
    inputs = {f"run {n}": run for n, run in enumerate(runs)} | {f"retain {n}": run for n, run in enumerate(retain)}

    def write(folder: Path) -> dict[str, Any]:
        compared = _tables(group)
        _write(folder, compared)
        return {
            "warnings": [remark for table in compared for remark in table.remarks],
            "summary": {
                "runs": len(runs),
                "rows": sum(row.kind == EDITED for table in compared for row in table.rows),
                "files": [PAGE, TEXT, SHEET, DATA, *([PICTURE] if (folder / PICTURE).exists() else [])],
            },
        }

    return over_runs(
        store,
        NAME,
        group.slug,
        version=VERSION,
        identity=named,
        inputs={name: run.score for name, run in inputs.items()},
        write=write,
        reporter=reporter,
        command=command,
        force=force,
    )


def _tables(group: Group) -> list[Compared]:
    compared = []
    for mode, members in group.modes().items():
        rows, remarks = compare_table(members, group.retain)
        remarks = [*remarks_on(rows), *remarks, *unlike_numbers(members), *unlike_asked([*members, *group.retain])]
        remarks += [] if group.retain else [NO_RETAIN]
        place = {"benchmark": group.benchmark, "split": group.split, "model": group.model, "mode": mode}
        compared.append(Compared(**place, rows=rows, remarks=list(dict.fromkeys(remarks))))
    return compared


def _write(folder: Path, compared: Sequence[Compared]) -> None:
    columns = [column._asdict() for column in COLUMNS]
    write_json(folder / DATA, {"format": FORMAT, "columns": columns, "tables": to_builtins(compared)})
    (folder / SHEET).write_text(to_csv(compared), "utf-8")
    first = compared[0]
    title = f"{first.benchmark} {first.split}, {first.model}"
    drawn = _draw(compared, folder / PICTURE, title)
    (folder / TEXT).write_text(to_markdown(f"Comparison: {title}", compared, PICTURE if drawn else None), "utf-8")
    (folder / PAGE).write_text(runs_page(compared), "utf-8")


def _draw(compared: Sequence[Compared], path: Path, title: str) -> bool:
    from unierase_cli.results.pictures import Point, labelled_points

    points: list[Point] = []
    for table in compared:
        for row in table.rows:
            forget, kept = row.values[FORGET], row.values[KEPT]
            if forget.mean is None or kept.mean is None:
                continue
            edited = row.kind == EDITED
            mode = f" ({table.mode})" if edited and len(compared) > 1 else ""
            mark = f"{row.number}{mode}" if edited else ""
            label = row.label + mode
            if edited or label not in [point.label for point in points]:
                spread = (spread_of(forget), spread_of(kept))
                points.append(Point(label, forget.mean, kept.mean, *spread, row.method, mark))
    if points:
        labelled_points(points, path, title=title)
    return bool(points)


def unlike_numbers(runs: Sequence[ScoredRun]) -> list[str]:
    """Remarks on numbers that are not comparable: different metric versions, judges, references or machines."""
    versions: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        for column in run.scores.columns:
            versions[column.title or column.id].add(column.version)
    remarks = [
        f"{title} was computed by its versions {', '.join(map(str, sorted(found)))}; unierase score computes it again"
        for title, found in versions.items()
        if len(found) > 1
    ]
    remarks += unlike_scored(runs)
    machines = {str(run.score.manifest.get("environment", {}).get("platform")) for run in runs}
    devices = {str(run.config["run"].get("device")) for run in runs}
    if len(machines) > 1 or len(devices) > 1:
        remarks.append(f"seconds and memory come from different machines or devices: {', '.join(sorted(machines | devices))}")
    return remarks


def unlike_asked(runs: Sequence[ScoredRun]) -> list[str]:
    """Remarks on splits of which not all runs were asked the same rows."""
    asked: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for run in runs:
        for place, facts in run.scores.facts.items():
            if place.endswith(".plain"):
                asked[place.removesuffix(".plain")].add(tuple(sorted(facts)))
    return [
        f"not all runs were asked the same {split} rows ({' and '.join(str(len(f)) for f in sorted(found, key=len))} of them)"
        for split, found in asked.items()
        if len(found) > 1
    ]
