"""Runs jobs as tasks on an existing Ray cluster; each starts the job's command, as ``local`` does.

A task whose worker or node dies is started again by Ray; the run then resumes from its artefacts.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from typing import Any

from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.contracts import UserError
from unierase_cli.launch.jobs import Finished, Job, Watch, ended, last_words, start, stop
from unierase_cli.signals import ending_like_ctrl_c

# Seconds between polls of the tasks, and that the cluster's address gets to answer.
LOOK_EVERY, ANSWERS_WITHIN = 0.5, 5.0
ADDRESS = "RAY_ADDRESS"
START = "start one with `ray start --head`, or set RAY_ADDRESS=HOST:PORT"
TIED = "unierase_cli.launch.tied"
# A worker has the environment of `ray start`; variables of ours with these beginnings go with the run.
SENT = ("UNIERASE_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "TORCH_", "PYTHON", "WANDB_", "MLFLOW_", "TRACKIO_")


@dataclass(frozen=True)
class Demand:
    """What a run reserves on its node: CPU cores, GPUs, and main memory in bytes (0: none is reserved)."""

    cpus: int
    gpus: int
    memory: int = 0

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPU core{'s' * (self.cpus != 1)}"]
        parts += [f"{self.gpus} GPU{'s' * (self.gpus != 1)}"] if self.gpus else []
        parts += [f"{self.memory / 2**30:.1f} GiB of main memory"] if self.memory else []
        return ", ".join(parts)

    def fits(self, resources: Mapping[str, float]) -> bool:
        """Whether a node with these resources can run it when nothing else does."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return all(amount <= resources.get(name, 0) for name, amount in wanted.items())


class Attempt:
    """Runs on a worker: starts the job and waits for it. The job ends with the worker, so that it never runs twice at a time."""

    def __init__(self, job: Job, environment: Mapping[str, str], folder: str) -> None:
        self.job, self.environment, self.folder = job, dict(environment), folder

    def __call__(self) -> int:
        os.chdir(self.folder)
        process = start(
            replace(self.job, command=(sys.executable, "-m", TIED, str(os.getpid()), *self.job.command)), self.environment
        )
        try:
            # Waiting without end, it would not hear that the task is cancelled.
            while (code := process.poll()) is None:
                time.sleep(LOOK_EVERY)
            return code
        finally:
            stop([process])


def library() -> Any:
    """Ray; raises UserError with the install command if it is missing."""
    try:
        import ray
    except ImportError as error:
        raise UserError("launcher=ray needs ray, which is not installed", 'pip install "unierase[ray]"') from error
    return ray


@contextmanager
def connected() -> Iterator[Any]:
    """Within, this process is connected to the cluster at $RAY_ADDRESS, or to the one that runs on this machine.

    Raises UserError if ray is missing or no cluster answers.
    """
    ray = library()
    _check_address()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address="auto", logging_level="error", log_to_driver=False)
        # Ray would end this process at once, and the runs with it.
        signal.signal(signal.SIGTERM, before)
    except (ConnectionError, RuntimeError, ValueError) as error:
        # What Ray advises after its first sentence are options of its own commands.
        raise UserError(f"no Ray cluster answers: {_first_line(error).split('. ')[0]}", START) from error
    try:
        # Ray prints what happens to workers, and standard output is for --json.
        with redirect_stdout(sys.stderr):
            yield ray
    finally:
        ray.shutdown()


def demand(ray: Any, config: LauncherConfig, device: str) -> Demand:
    """What a run with this ``run.device`` reserves, without the memory that only its estimate knows."""
    has_gpus = any(node["Alive"] and node["Resources"].get("GPU", 0) >= 1 for node in ray.nodes())
    gpus = config.gpus if config.gpus is not None else int(has_gpus and device != "cpu")
    return Demand(config.cpus, gpus, (config.memory_gib or 0) << 30)


def too_large(ray: Any, wanted: Demand) -> str | None:
    """A remark if no node has what a run needs: Ray waits until one is added."""
    if any(node["Alive"] and wanted.fits(node["Resources"]) for node in ray.nodes()):
        return None
    return f"no node of the Ray cluster has {wanted}: the run waits until there is one (launcher.cpus, gpus, memory_gib)"


def run_on_ray(
    ray: Any, jobs: Sequence[tuple[Job, Demand]], config: LauncherConfig, watch: Watch
) -> list[Finished]:
    """Run all jobs, ``launcher.jobs`` at a time; on KeyboardInterrupt they are cancelled and the error is raised again."""
    waiting, done = deque(jobs), []
    tasks: dict[Any, Job] = {}
    since: dict[Job, float] = {}
    with ending_like_ctrl_c():
        try:
            while waiting or tasks:
                while waiting and len(tasks) < config.jobs:
                    job, wanted = waiting.popleft()
                    tasks[_submit(ray, job, wanted, config.retries)] = job
                ready, _ = ray.wait(list(tasks), timeout=LOOK_EVERY)
                for task, job in list(tasks.items()):
                    if job not in since and job.log.exists():
                        since[job] = time.monotonic()
                        watch.started(job)
                    if task not in ready:
                        if job in since:
                            watch.alive(job, last_words(job.log))
                        continue
                    del tasks[task]
                    done.append(_outcome(ray, job, task, time.monotonic() - since.get(job, time.monotonic())))
                    watch.finished(done[-1])
        finally:
            for task in tasks:
                ray.cancel(task)
            # Their runs save their state, which shutting down would cut off.
            ray.wait(list(tasks), num_returns=len(tasks), timeout=20.0) if tasks else None
    return done


def _submit(ray: Any, job: Job, wanted: Demand, retries: int) -> Any:
    """The task of a job. Its files and its folder are named absolutely, because a worker has another working directory."""
    sent = {name: value for name, value in os.environ.items() if name.startswith(SENT)}
    there = replace(job, log=job.log.absolute(), result=job.result.absolute())
    attempt = Attempt(there, {**sent, "OMP_NUM_THREADS": str(wanted.cpus)}, os.getcwd())
    reserved = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "memory": wanted.memory or None}
    return ray.remote(_run).options(name=job.label, max_retries=retries, **reserved).remote(attempt)


def _run(attempt: Attempt) -> int:
    return attempt()


def _outcome(ray: Any, job: Job, task: Any, seconds: float) -> Finished:
    """The job's exit code, or Ray's reason if no worker lived to report one."""
    try:
        return ended(job, ray.get(task), seconds)
    except Exception as error:
        # Ray raises its own errors and, as their cause, the task's; each means that this job failed.
        reason = getattr(error, "cause", None) or error
        return Finished(job, 1, seconds, f"{type(reason).__name__}: {_first_line(reason)}")


def _check_address() -> None:
    """Refuse a $RAY_ADDRESS where nobody listens: Ray itself would try for minutes."""
    address = os.environ.get(ADDRESS, "")
    if "://" in address:
        raise UserError(f"{ADDRESS}={address} is an address of Ray Client, which is not used here", START)
    host, _, port = address.rpartition(":")
    with suppress(ValueError):
        where = (host.strip("[]"), int(port))
        try:
            socket.create_connection(where, ANSWERS_WITHIN).close()
        except OSError as error:
            told = error.strerror or str(error)
            raise UserError(f"no Ray cluster answers at {ADDRESS}={host}:{port}: {told}", START) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
