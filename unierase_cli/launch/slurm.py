"""Runs jobs as an array on a Slurm cluster, through submitit; each node starts the job's command, as ``local`` does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.contracts import UserError
from unierase_cli.launch.jobs import Finished, Job, Watch, ended, last_words, start, stop
from unierase_cli.signals import ending_like_ctrl_c

# Seconds between polls of the queue.
LOOK_EVERY = {"slurm": 2.0, "local": 0.2}


class Attempt:
    """Runs on a node: starts the job and waits for it. At the time limit it is requeued and the run resumes."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.job, self.environment = job, dict(environment)

    def __call__(self) -> int:
        process = start(self.job, self.environment)
        try:
            return process.wait()
        finally:
            stop([process])

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submitit() -> Any:
    """The submitit library; raises UserError with the install command if it is missing."""
    try:
        import submitit as library
    except ImportError as error:
        raise UserError("launcher=slurm needs submitit, which is not installed", 'pip install "unierase[slurm]"') from error
    return library


def run_on_slurm(jobs: Sequence[Job], config: LauncherConfig, folder: Path, watch: Watch) -> list[Finished]:
    """Submit all jobs as one array and wait for them; on KeyboardInterrupt they are cancelled and the error is raised again.

    Raises UserError if submitit or Slurm is missing, or if Slurm refuses the array.
    """
    attempts = [Attempt(job, {"OMP_NUM_THREADS": str(config.cpus)}) for job in jobs]
    submitted = _submit(attempts, config, folder)
    waiting = dict(zip(jobs, submitted, strict=True))
    since: dict[Job, float] = {}
    done: list[Finished] = []
    with ending_like_ctrl_c():
        try:
            while waiting:
                time.sleep(LOOK_EVERY[config.cluster])
                for job, one in list(waiting.items()):
                    if job not in since and job.log.exists():
                        since[job] = time.monotonic()
                        watch.started(job)
                    if not one.done():
                        if job in since:
                            watch.alive(job, last_words(job.log))
                        continue
                    del waiting[job]
                    done.append(_outcome(job, one, time.monotonic() - since.get(job, time.monotonic())))
                    watch.finished(done[-1])
        finally:
            for one in waiting.values():
                one.cancel(check=False)
    return done


def _submit(attempts: Sequence[Attempt], config: LauncherConfig, folder: Path) -> list[Any]:
    library = submitit()
    try:
        executor = library.AutoExecutor(folder=folder, cluster=config.cluster)
        executor.update_parameters(**parameters(config))
        with executor.batch():
            return [executor.submit(attempt) for attempt in attempts]
    except (RuntimeError, library.core.utils.FailedJobError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the array cannot be submitted: {first}", "check launcher.*, or launcher=local") from error


def parameters(config: LauncherConfig) -> dict[str, Any]:
    """The launcher section as submitit's parameters."""
    named = {"slurm_partition": config.partition, "slurm_account": config.account}
    return {
        "name": "unierase",
        "timeout_min": config.minutes,
        "gpus_per_node": config.gpus,
        "cpus_per_task": config.cpus,
        "mem_gb": config.memory_gib,
        "slurm_array_parallelism": config.jobs,
        "slurm_additional_parameters": config.sbatch,
        **{name: value for name, value in named.items() if value is not None},
    }


def _outcome(job: Job, one: Any, seconds: float) -> Finished:
    """The job's exit code, or Slurm's state if the node never reported one."""
    try:
        return ended(job, one.result(), seconds)
    except Exception as error:
        # submitit raises the job's errors and its own; each means that this job failed.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return Finished(job, 1, seconds, f"{one.state}: {lines[0] if lines else type(error).__name__}")
