"""The result of a sweep: its record on disk, one table over its runs, and a list of failed runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from unierase_cli.cli.render import ConsoleReporter, emit_json
from unierase_cli.cli.sweep.plan import SCORED, Planned
from unierase_cli.contracts import UserError
from unierase_cli.launch.jobs import Finished
from unierase_cli.pipeline.evaluation import PRECISE
from unierase_cli.results.table import Table
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import read_as, write_json

RECORD = "sweep.json"
# What a run writes as JSON when it finishes.
MADE: Any = msgspec.defstruct("Made", [("folder", str, msgspec.field(name="path"))])
AGAIN = "the same command runs these again and skips what is done"


@dataclass
class Audited:
    """The audit of a run: where it is, or why it failed, and its log."""

    folder: Path | None = None
    error: str = ""
    log: Path | None = None

    def data(self) -> dict[str, Any]:
        path, log = (str(place) if place else None for place in (self.folder, self.log))
        return {"path": path, "error": self.error or None, "log": log}


@dataclass
class Ran:
    """A combination and its state: ``done`` (before the sweep), ``made``, ``failed`` or ``not run`` (interrupted, or a twin)."""

    planned: Planned
    state: str = "not run"
    path: Path | None = None
    error: str = ""
    log: Path | None = None
    seconds: float | None = None
    audit: Audited | None = None

    def data(self) -> dict[str, Any]:
        return {
            "combination": dict(self.planned.combination.chosen),
            "words": list(self.planned.combination.words),
            "state": self.state,
            "path": str(self.path) if self.path else None,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "error": self.error or None,
            "log": str(self.log) if self.log else None,
            **({"audit": self.audit.data()} if self.audit else {}),
        }


@dataclass
class Results:
    """All combinations of a sweep; ``folder`` has its logs, or is None if nothing had to run."""

    stage: str
    store: Store
    command: list[str]
    runs: list[Ran]
    folder: Path | None = None
    started: float = field(default_factory=time.time)

    @property
    def failed(self) -> list[Ran]:
        """Runs that failed, or whose audit did."""
        return [run for run in self.runs if run.state == "failed" or (run.audit and run.audit.error)]

    def keep(self, finished: Finished) -> None:
        """Record a finished job and write the record to disk."""
        run = next(run for run in self.runs if run.planned.number == finished.job.number)
        run.seconds, run.log = finished.seconds, finished.job.log
        if finished.code == 0:
            try:
                run.path = Path(read_as(finished.job.result, MADE, AGAIN).folder)
                run.state = "made"
            except UserError as error:
                run.state, run.error = "failed", error.message
        else:
            run.state, run.error = "failed", finished.error
        self.write()

    def write(self) -> None:
        if self.folder is not None:
            runs = [run.data() for run in self.runs]
            record = {"format": 1, "command": self.command, "stage": self.stage, "started": self.started, "runs": runs}
            write_json(self.folder / RECORD, record)

    def settle_twins(self) -> None:
        """Give every twin the state of the earlier combination that makes the same artefact."""
        for run in self.runs:
            if run.state == "not run" and run.planned.twin is not None:
                first = self.runs[run.planned.twin - 1]
                run.state, run.path, run.log, run.error = first.state, first.path, first.log, first.error

    def paths(self) -> list[str]:
        return list(dict.fromkeys(str(run.path) for run in self.runs if run.path is not None))


def compared(results: Results, reporter: ConsoleReporter) -> list[Artefact]:
    """The comparisons over all runs of the sweep; empty if no run was scored."""
    if results.stage not in SCORED or not results.paths():
        return []
    from unierase_cli.results.many_runs.comparison import compare_runs

    scored = _scored(results, reporter)
    if not scored:
        return []
    try:
        return compare_runs(results.store, scored, reporter=reporter, command=results.command)
    except UserError as error:
        reporter.note(f"no table: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        return []


def _scored(results: Results, reporter: ConsoleReporter) -> list[str]:
    """The runs that one table can show; precise runs leave no model with all edits and have their own tables."""
    made = [results.store.resolve(path) for path in results.paths()]
    alone = [artefact for artefact in made if artefact.stage == PRECISE]
    if alone:
        names = ", ".join(artefact.full_name for artefact in alone)
        reporter.note(f"not in the table, because each fact was erased by itself (see unierase show RUN): {names}")
    return [str(artefact.path) for artefact in made if artefact not in alone]


def show_results(results: Results, reporter: ConsoleReporter, audits: Artefact | None, *, as_json: bool) -> None:
    """Show the tables, what was made of the audits and then the failures, or print everything as JSON."""
    from unierase_cli.cli.outcome import as_data, outcome, read_comparison, show_comparison, show_outcome
    from unierase_cli.cli.tables import artefact_table, show

    made = compared(results, reporter)
    if as_json:
        comparisons = [{**as_data(artefact), **read_comparison(artefact)} for artefact in made]
        folder = str(results.folder) if results.folder else None
        runs = [run.data() for run in results.runs]
        told = {"stage": results.stage, "folder": folder, "runs": runs, "comparisons": comparisons}
        emit_json(told | ({"audits": outcome(audits, results.store)} if audits else {}))
        return
    console = reporter.console
    for artefact in made:
        show_comparison(console, artefact)
    if results.stage not in SCORED and results.paths():
        show(console, artefact_table([results.store.resolve(path) for path in results.paths()]))
    if audits is not None:
        show_outcome(console, audits, results.store)
    if results.failed:
        show(console, failure_table(results.failed))
    if results.folder is not None:
        console.print(str(results.folder), style="bold", soft_wrap=True)


def failure_table(failed: Sequence[Ran]) -> Table:
    rows = [(str(r.planned.number), r.planned.label, r.error, str(r.log or "")) for r in failed if r.state == "failed"]
    rows += [
        (str(r.planned.number), f"audit of {r.planned.label}", r.audit.error, str(r.audit.log or ""))
        for r in failed
        if r.audit and r.audit.error
    ]
    return Table(f"Failed: {len(failed)}", ("no.", "combination", "error", "log"), tuple(rows), frozenset({"no."}), AGAIN)
