"""A job: one command in its own process, with a log file and a result file."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Seconds between polls, and the seconds that a job gets to end after SIGINT and after SIGTERM.
LOOK_EVERY = 0.2
COURTESY = (15.0, 5.0)
# Bytes at the end of a log to search for the last message.
TAIL = 16384


@dataclass(frozen=True)
class Job:
    """``result`` gets the standard output, ``log`` everything else that the job prints."""

    number: int
    label: str
    command: tuple[str, ...]
    log: Path
    result: Path


@dataclass(frozen=True)
class Finished:
    """A job that has ended; ``error`` says in one line why a ``code`` other than 0 was returned."""

    job: Job
    code: int
    seconds: float
    error: str = ""


class Watch(Protocol):
    """Receives the progress of jobs."""

    def started(self, job: Job) -> None: ...

    def alive(self, job: Job, words: str) -> None:
        """The job is running; ``words`` is the last line of its log."""
        ...

    def finished(self, done: Finished) -> None: ...


def start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the job in its own session, so that Ctrl-C in the terminal reaches it only through ``stop``, once."""
    with job.log.open("ab") as log, job.result.open("wb") as result:
        log.write(f"$ {shlex.join(job.command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop all processes with SIGINT, so that they can save their state, then SIGTERM, then SIGKILL."""
    for kind, patience in zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), (*COURTESY, 5.0), strict=True):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, kind)
        deadline = time.monotonic() + patience
        for process in alive:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def last_words(log: Path) -> str:
    """The last line of a job's log, stripped."""
    return next((line for line in reversed(_tail(log)) if not line.startswith("$ ")), "")


def ended(job: Job, code: int, seconds: float) -> Finished:
    """The outcome of a job, with the reason for a failure from its exit code and log."""
    return Finished(job, code, seconds, "" if code == 0 else _why(job, code))


def _why(job: Job, code: int) -> str:
    if code < 0:
        name = next((kind.name for kind in signal.Signals if kind == -code), f"signal {-code}")
        return f"killed by {name}" + (", most likely out of memory" if name == "SIGKILL" else "")
    lines = _tail(job.log)
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    said = told or [line for line in lines if not line.startswith("$ ")]
    return said[-1] if said else f"exit code {code} without a message"


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
