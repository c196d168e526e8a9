"""Audits of a sweep's runs: each in a process of its own once the runs are done; what they share is made once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.cli.render import ConsoleReporter
from unierase_cli.cli.sweep.outcome import AGAIN, MADE, Audited, Results
from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import read_as

if TYPE_CHECKING:
    from unierase_cli.launch.jobs import Finished, Job
    from unierase_cli.store.artefact import Artefact


def audit_jobs(results: Results, program: Sequence[str], attacks: str, folder: Path) -> list[Job]:
    """A job for every run that is there and whose audit is not, with what the sweep's words say of it; of runs that are the same
    artefact, one.
    """
    from unierase_cli.launch.jobs import Job

    jobs: dict[Path, Job] = {}
    for run in results.runs:
        if run.path is None or run.path in jobs:
            continue
        if run.planned.audited:
            run.audit = Audited(Path(str(run.planned.audit[-1].path)))
            continue
        number, label = run.planned.number, f"audit of {run.planned.label}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{number:03d}_audit_{run.planned.label.replace(' ', '_')}")[:100]
        told = [word for word in run.planned.combination.words if re.match(r"\+*audit\.", word)]
        command = (*program, "audit", str(run.path), *told, "--attacks", attacks, "--outputs", str(results.store.root), "--json")
        jobs[run.path] = Job(number, label, command, folder / f"{name}.log", folder / f"{name}.json")
    return list(jobs.values())


def keep_audit(results: Results, finished: Finished) -> None:
    """Record a finished audit, with all runs that are the same artefact, and write the record to disk."""
    job = finished.job
    found = Audited(error=finished.error, log=job.log)
    if finished.code == 0:
        try:
            found.folder = Path(read_as(job.result, MADE, AGAIN).folder)
        except UserError as error:
            found.error = error.message
    path = next(run.path for run in results.runs if run.planned.number == job.number)
    for run in results.runs:
        if run.path == path:
            run.audit = found
    results.write()


def made_of_audits(results: Results, reporter: ConsoleReporter) -> Artefact | None:
    """The artefact over all audits of the sweep, or the only one; None if there are none."""
    from unierase_cli.results.audits.together import together

    made: Mapping[Path, Artefact] = {
        run.audit.folder: results.store.resolve(str(run.audit.folder))
        for run in results.runs
        if run.audit and run.audit.folder
    }
    if len(made) < 2:
        return next(iter(made.values()), None)
    return together(results.store, list(made.values()), reporter=reporter, command=results.command)
