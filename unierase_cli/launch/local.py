"""Runs jobs as processes on this machine, a few at a time; a job that fails or is killed does not affect the others."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from unierase_cli.launch.jobs import (
    LOOK_EVERY,
    Finished,
    Job,
    Watch,
    ended,
    last_words,
    start,
    stop,
)
from unierase_cli.signals import ending_like_ctrl_c

THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"


def run_locally(jobs: Sequence[Job], places: Sequence[Mapping[str, str]], watch: Watch) -> list[Finished]:
    """Run all jobs, as many at a time as there are ``places``; a place holds the environment variables for its jobs.

    On KeyboardInterrupt the running jobs are stopped and the error is raised again.
    """
    waiting, free = deque(jobs), deque(range(len(places)))
    running: dict[int, tuple[Job, subprocess.Popen[bytes], float]] = {}
    done: list[Finished] = []

    def keep(finished: Finished) -> None:
        done.append(finished)
        watch.finished(finished)

    with ending_like_ctrl_c():
        try:
            while waiting or running:
                while waiting and free:
                    job, place = waiting.popleft(), free.popleft()
                    try:
                        running[place] = (job, start(job, places[place]), time.monotonic())
                    except OSError as error:
                        free.append(place)
                        keep(Finished(job, 127, 0.0, f"cannot be started: {error}"))
                        continue
                    watch.started(job)
                time.sleep(LOOK_EVERY)
                for place, (job, process, since) in list(running.items()):
                    code = process.poll()
                    if code is None:
                        watch.alive(job, last_words(job.log))
                        continue
                    del running[place]
                    free.append(place)
                    keep(ended(job, code, time.monotonic() - since))
        finally:
            stop([process for _, process, _ in running.values()])
    return done


def share_out(count: int, environment: Mapping[str, str] | None = None) -> tuple[list[dict[str, str]], str]:
    """Divide the machine between ``count`` concurrent jobs: the environment variables of each, and a line that explains them.

    Threads are set unless the user has set them; if there are several GPUs, each place gets one, in turn.
    """
    environment = os.environ if environment is None else environment
    places: list[dict[str, str]] = [{} for _ in range(count)]
    if count == 1:
        return places, ""
    said = [f"{count} runs at a time"]
    if THREADS in environment:
        said.append(f"{THREADS}={environment[THREADS]} as it was set")
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // count)
        for place in places:
            place[THREADS] = str(threads)
        said.append(f"{THREADS}={threads} each, of {cores} cores (another number of threads changes rounding)")
    devices = _devices(environment)
    if len(devices) > 1:
        for index, place in enumerate(places):
            place[VISIBLE] = devices[index % len(devices)]
        said.append(f"one of {len(devices)} GPUs each ({VISIBLE})")
    return places, "; ".join(said)


def _devices(environment: Mapping[str, str]) -> list[str]:
    """Names of the usable GPUs, found without loading a library that would occupy them."""
    if VISIBLE in environment:
        return [name.strip() for name in environment[VISIBLE].split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
