"""What each run of a sweep reserves on a Ray cluster: the launcher's section, completed by the run's estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unierase_cli.cli.sweep.plan import Planned
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.contracts import Reporter
from unierase_cli.estimate.of_plan import main_memory
from unierase_cli.launch.jobs import Job
from unierase_cli.launch.ray import Demand, demand, too_large
from unierase_cli.pipeline.pipeline import PlanRow
from unierase_cli.pipeline.study import Study, study_of

if TYPE_CHECKING:
    Plans = Mapping[int, tuple[Planned, Sequence[PlanRow]]]


def demands(ray: Any, jobs: Sequence[Job], plans: Plans, launcher: LauncherConfig, reporter: Reporter) -> list[tuple[Job, Demand]]:
    """Every job with what it reserves; ``plans``: by a job's number, its combination and the artefacts that it makes.

    The reporter is told what is reserved, and what no node has.
    """
    found: list[tuple[Job, Demand]] = []
    study: Study | None = None
    for job in jobs:
        one, rows = plans[job.number]
        study = study_of(one.experiment) if study is None else study.changed(one.experiment)
        wanted = demand(ray, launcher, one.experiment.run.device)
        if launcher.memory_gib is None:
            wanted = replace(wanted, memory=main_memory(study, rows, accelerator=wanted.gpus > 0))
        found.append((job, wanted))
    largest = max((wanted for _, wanted in found), key=lambda wanted: (wanted.gpus, wanted.memory))
    reporter.note(f"each run reserves {'up to ' if len(found) > 1 else ''}{largest}")
    for remark in dict.fromkeys(too_large(ray, wanted) for _, wanted in found):
        if remark:
            reporter.warn(remark)
    return found
