"""The sweep command: runs every combination of the words' values in its own process and shows one table at the end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unierase_cli.cli import options
from unierase_cli.cli.complete import complete_sweep
from unierase_cli.cli.options import Chosen, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.stage_table import stage_of
from unierase_cli.store.environment import whole_number

if TYPE_CHECKING:
    from unierase_cli.cli.session import Journal
    from unierase_cli.cli.sweep.demands import Plans
    from unierase_cli.cli.sweep.outcome import Results
    from unierase_cli.cli.sweep.plan import Planned
    from unierase_cli.config.sections.launcher import LauncherConfig
    from unierase_cli.launch.jobs import Finished, Job

# More combinations than this need --yes; composing them alone takes a while.
MANY = 100
FOLDER = "sweeps"
# Runs a command in a process of its own.
PROGRAM = (sys.executable, "-m", "unierase_cli")


class Command(StrEnum):
    """The commands that a sweep can run."""

    EVAL = "eval"
    RUN = "run"
    ERASE = "erase"


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=V1,V2",
        help="Any key of the configuration, with one value or several: method=unierase,npo_gd seed=0,1 or seed=range(0,3). "
        "Text in brackets or quotes is one value: eval.splits=[forget,retain_unseen]. "
        "unierase ls keys explains each key.",
        autocompletion=complete_sweep,
        show_default=False,
    ),
]
Stage = Annotated[Command, typer.Option("--stage", help="The command to run for each combination.")]
Jobs = Annotated[int | None, typer.Option("--jobs", metavar="N", min=1, help="Runs at a time (launcher.jobs=N).")]
Launcher = Annotated[
    str | None,
    typer.Option(
        "--launcher", metavar="NAME", help="launcher=NAME: local, slurm or ray.", autocompletion=options.complete_choice("launcher")
    ),
]
Seeds = Annotated[str | None, typer.Option("--seed", metavar="N,N", help="run.seed=N,N")]
Audit = Annotated[
    str | None,
    typer.Option("--audit", metavar="A,B", help="Audit every run: quick, standard, thorough, or attacks (unierase ls attacks)."),
]
Yes = Annotated[bool, typer.Option("--yes", help=f"Allow more than {MANY} combinations.")]


@with_shared_options("print_config", "no_chain")
def sweep(
    context: typer.Context,
    chosen: Chosen,
    words: Words = None,
    stage: Stage = Command.EVAL,
    jobs: Jobs = None,
    launcher: Launcher = None,
    seed: Seeds = None,
    audit: Audit = None,
    yes: Yes = False,
) -> None:
    if whole_number("WORLD_SIZE", 1) > 1:
        raise UserError("a sweep starts its own processes, one per run", "leave out torchrun or accelerate launch")
    from unierase_cli.config.sweep import expand

    journal: Journal = context.obj
    wishes = chosen.wishes(words or [])
    more = {"seed": seed, "launcher": launcher, "launcher.jobs": jobs}
    combinations = expand([*wishes.words, *(f"{key}={value}" for key, value in more.items() if value is not None)])
    if len(combinations) > MANY and not yes:
        raise UserError(f"these words make {len(combinations)} runs", "add --yes to run them all")
    from unierase_cli.cli.sweep.plan import plan_data, plan_sweep, plan_table
    from unierase_cli.config.compose import compose_launcher

    attacks = [] if audit is None else [word for word in audit.replace(" ", "").split(",") if word]
    if audit is not None and not attacks:
        raise UserError("--audit names no attack", "--audit quick, or a name that `unierase ls attacks` lists")
    planned = plan_sweep(combinations, stage_of(stage), wishes.config_dir, journal.reporter, attacks)
    journal.outputs = planned[0].experiment.run.outputs
    if wishes.dry_run and wishes.json:
        emit_json(plan_data(planned))
        return
    from unierase_cli.cli.tables import show

    show(journal.reporter.console, plan_table(planned))
    if wishes.dry_run:
        return
    settings = compose_launcher(planned[0].combination.words, wishes.config_dir)
    results = _run(journal, planned, stage, settings, wishes.config_dir, ",".join(attacks))
    from unierase_cli.cli.sweep.audits import made_of_audits
    from unierase_cli.cli.sweep.outcome import show_results

    show_results(results, journal.reporter, made_of_audits(results, journal.reporter), as_json=wishes.json)
    if results.failed:
        raise typer.Exit(1)


def _run(
    journal: Journal,
    planned: Sequence[Planned],
    stage: Command,
    launcher: LauncherConfig,
    config_dir: Path | None,
    attacks: str,
) -> Results:
    """Make what is missing: first all runs, then, with ``attacks``, the audits of those that are there."""
    from unierase_cli.cli.sweep.audits import audit_jobs, keep_audit
    from unierase_cli.cli.sweep.outcome import Ran, Results
    from unierase_cli.launch import ray, slurm
    from unierase_cli.store.artefacts import Store

    runs = [Ran(one, "done", one.folder) if one.done else Ran(one) for one in planned]
    results = Results(stage_of(stage), Store(journal.outputs), ["unierase", *sys.argv[1:]], runs)
    left = [one for one in planned if not one.done and one.twin is None]
    if not left and (not attacks or all(one.audited for one in planned)):
        journal.reporter.note("nothing to do: every combination is done")
        results.settle_twins()
        audit_jobs(results, PROGRAM, attacks, Path(journal.outputs))
        return results
    if launcher.name == "slurm":
        slurm.submitit()
    with ray.connected() if launcher.name == "ray" else nullcontext() as cluster:
        results.folder = _new_folder(Path(journal.outputs) / FOLDER)
        made = [_job(one, stage, results.folder, config_dir) for one in left]
        results.write()
        plans = {one.number: (one, one.rows) for one in left}
        _launch(journal, made, plans, launcher, cluster, results.folder / "slurm", results.keep)
        results.settle_twins()
        if attacks:
            audits = audit_jobs(results, PROGRAM, attacks, results.folder)
            plans = {one.number: (one, one.audit) for one in planned}
            folder = results.folder / "slurm-audits"
            _launch(journal, audits, plans, launcher, cluster, folder, lambda done: keep_audit(results, done))
    results.write()
    return results


def _launch(
    journal: Journal,
    jobs: Sequence[Job],
    plans: Plans,
    launcher: LauncherConfig,
    cluster: Any,
    folder: Path,
    keep: Callable[[Finished], None],
) -> None:
    """Run the jobs, and call ``keep`` with each that has ended; ``cluster``: a connected Ray, ``folder``: for submitit's files."""
    from unierase_cli.cli.sweep.watch import SweepWatch
    from unierase_cli.launch import ray, slurm
    from unierase_cli.launch.local import run_locally, share_out

    if not jobs:
        return
    if launcher.name == "ray":
        from unierase_cli.cli.sweep.demands import demands

        wanted = demands(cluster, jobs, plans, launcher, journal.reporter)
    with SweepWatch(journal.reporter, len(jobs), keep) as watch:
        if launcher.name == "slurm":
            slurm.run_on_slurm(jobs, launcher, folder, watch)
        elif launcher.name == "ray":
            ray.run_on_ray(cluster, wanted, launcher, watch)
        else:
            places, about = share_out(min(launcher.jobs, len(jobs)))
            if about:
                journal.reporter.note(about)
            run_locally(jobs, places, watch)


def _job(one: Planned, stage: Command, folder: Path, config_dir: Path | None) -> Job:
    from unierase_cli.launch.jobs import Job

    # The launcher belongs to the sweep, not to a run.
    words = [word for word in one.combination.words if not re.match(r"\+*launcher[.=]", word)]
    more = ["--config-dir", str(config_dir)] if config_dir else []
    command = (*PROGRAM, stage.value, *words, *more, "--json")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{one.number:03d}_{one.label.replace(' ', '_')}")[:100]
    return Job(one.number, one.label, command, folder / f"{name}.log", folder / f"{name}.json")


def _new_folder(parent: Path) -> Path:
    """Make a folder ``<stamp>``, or ``<stamp>-2`` if two sweeps start in the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}", "choose another folder with --outputs") from error
        else:
            return folder
