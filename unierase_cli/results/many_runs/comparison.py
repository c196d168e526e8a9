"""Compares many finished runs in one table: methods side by side, seeds pooled, with the unedited model on top.

``comparison.json`` is ``{"format": 1, "columns": [...], "tables": [rows.Compared]}``, one table per mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.pipeline.stage import COMPARISON
from unierase_cli.results.many_runs.quality import with_forget_quality
from unierase_cli.results.many_runs.rows import COLUMNS, EDITED, FORGET, KEPT, Compared, compare_table
from unierase_cli.results.many_runs.tables import remarks_on, to_csv, to_markdown
from unierase_cli.results.over_runs import over_runs
from unierase_cli.results.page.runs_page import runs_page, spread_of
from unierase_cli.results.runs import ScoredRun, find_runs
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json

NAME = COMPARISON
VERSION = 5
FORMAT = 1
DATA, TEXT, SHEET, PICTURE = "comparison.json", "comparison.md", "comparison.csv", "forgetting-retention.png"
PAGE = "comparison.html"
NO_RETAIN = (
    "there is no retain-only model to compare with: score one (unierase eval method=none with this benchmark and "
    "train.split=retain, or model.path= of such a model) and name that run with --retain RUN"
)


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
    runs = find_runs(store, words)
    named = find_runs(store, retain) if retain else []
    chosen = {run.score.path for run in named}
    found = [run for run in runs if _trained_on_retain(run) and run.score.path not in chosen]
    references = [*named, *found]
    # A pattern may match the reference as well.
    set_apart = {run.score.path for run in references}
    runs = [run for run in runs if run.score.path not in set_apart]
    if not runs:
        raise UserError("all these runs are of retain-only models", "also name the runs to compare with them")
    groups: dict[tuple[str, ...], list[ScoredRun]] = defaultdict(list)
    for run in runs:
        groups[_group(run)].append(run)
    for reference in references:
        if not any(_asks(reference) == key[:2] for key in groups):
            asked = " ".join(_asks(reference))
            raise UserError(f"{reference.name} is of {asked}, but none of the runs is", "give a --retain RUN of the same split")
    made = []
    for key, members in groups.items():
        slug = _slug(key, [other for other in groups if other != key])
        # A named reference fits any model; a reference found automatically belongs to models of its own group.
        fitting = [r for r in named if _asks(r) == key[:2]] + [r for r in found if _group(r) == key]
        members, fitting = (with_forget_quality(store, some, fitting) for some in (members, fitting))
        made.append(_make(store, slug, members, fitting, reporter, command, force))
    return made


def _make(
    store: Store,
    slug: str,
    runs: Sequence[ScoredRun],
    retain: Sequence[ScoredRun],
    reporter: Reporter,
    command: Sequence[str],
    force: bool,
) -> Artefact:
    named = {name: sorted((r.name, r.score.key) for r in part) for name, part in (("runs", runs), ("retain", retain))}
    inputs = {f"run {n}": run for n, run in enumerate(runs)} | {f"retain {n}": run for n, run in enumerate(retain)}

    def write(folder: Path) -> dict[str, Any]:
        compared = _tables(runs, retain)
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
        slug,
        version=VERSION,
        identity=named,
        inputs={name: run.score for name, run in inputs.items()},
        write=write,
        reporter=reporter,
        command=command,
        force=force,
    )


def _tables(runs: Sequence[ScoredRun], retain: Sequence[ScoredRun]) -> list[Compared]:
    modes: dict[str, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        modes[run.config["mode"]["name"]].append(run)
    compared = []
    for mode, members in modes.items():
        rows, remarks = compare_table(members, retain)
        benchmark, split, model, _ = _group(members[0])
        remarks = [*remarks_on(rows), *remarks, *_unlike(members), *_unlike_asked([*members, *retain])]
        remarks += [] if retain else [NO_RETAIN]
        place = {"benchmark": benchmark, "split": split, "model": model, "mode": mode}
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


def _unlike(runs: Sequence[ScoredRun]) -> list[str]:
    """Remarks on numbers that are not comparable: different metric versions or machines."""
    versions: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        for column in run.scores.columns:
            versions[column.title or column.id].add(column.version)
    remarks = [
        f"{title} was computed by its versions {', '.join(map(str, sorted(found)))}; unierase score computes it again"
        for title, found in versions.items()
        if len(found) > 1
    ]
    machines = {str(run.score.manifest.get("environment", {}).get("platform")) for run in runs}
    devices = {str(run.config["run"].get("device")) for run in runs}
    if len(machines) > 1 or len(devices) > 1:
        remarks.append(f"seconds and memory come from different machines or devices: {', '.join(sorted(machines | devices))}")
    return remarks


def _unlike_asked(runs: Sequence[ScoredRun]) -> list[str]:
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


def _group(run: ScoredRun) -> tuple[str, str, str, str]:
    model = run.config["model"]
    return (*_asks(run), model["name"], str(model.get("path") or ""))


def _asks(run: ScoredRun) -> tuple[str, str]:
    benchmark = run.config["benchmark"]
    return benchmark["name"], benchmark["split"]


def _trained_on_retain(run: ScoredRun) -> bool:
    """Whether the finetune stage trained the run's model only on the retain rows."""
    return not run.config["model"].get("path") and run.config.get("train", {}).get("split", "").startswith("retain")


def _slug(key: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    """``<benchmark>-<split>_<model>``, followed by the model's folder if another model has that name."""
    benchmark, split, model, path = key
    text = f"{benchmark}-{split}_{model}"
    if any(other[:3] == key[:3] for other in others):
        text += f"-{Path(path).name or 'trained'}"
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text.lower())
