"""Jobs of a launcher: a few lines of Python each, and a reporter that notes what it hears."""

from __future__ import annotations

import sys
from pathlib import Path

from unierase_cli.launch.jobs import Finished, Job


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.words: list[str] = []
        self.ends: list[Finished] = []
        self.most = 0

    def started(self, job: Job) -> None:
        self.begun.append(job.label)
        self.most = max(self.most, len(self.begun) - len(self.ends))

    def alive(self, job: Job, words: str) -> None:
        self.words.append(words)

    def finished(self, done: Finished) -> None:
        self.ends.append(done)


def job(folder: Path, number: int, code: str) -> Job:
    command = (sys.executable, "-c", code)
    return Job(number, f"job {number}", command, folder / f"{number}.log", folder / f"{number}.json")


# A shell's background job is started with SIGINT ignored, and so is all that it starts.
HEAR = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
CHILD = (
    HEAR
    + """
import pathlib, sys, time
try:
    pathlib.Path(sys.argv[1] + '.started').touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1] + '.stopped').touch()
"""
)
