"""Progress of a sweep: a bar per running job in a terminal; elsewhere a line when a job starts, now and then, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unierase_cli.cli.amounts import duration
from unierase_cli.cli.render import ConsoleReporter

if TYPE_CHECKING:
    from unierase_cli.launch.jobs import Finished, Job

# Seconds between lines about a running job when there is no terminal.
EVERY = 60.0
WORDS = 72


class SweepWatch:
    """launch.jobs.Watch for a console, to be used as a context manager; ``keep`` is called with each finished job."""

    def __init__(
        self, reporter: ConsoleReporter, total: int, keep: Callable[[Finished], None], *, every: float = EVERY
    ) -> None:
        self.reporter, self.total, self.keep, self.every = reporter, total, keep, every
        self.ended = self.failed = 0
        self._told: dict[int, float] = {}
        self._lines: dict[int, Any] = {}
        self.bars = _make_bars(reporter) if reporter.interactive else None
        self._all: Any = None

    def __enter__(self) -> SweepWatch:
        if self.bars is not None:
            self.bars.start()
            self._all = self.bars.add_task("all runs", total=self.total, words=f"0 of {self.total}")
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bars is not None:
            self.bars.stop()

    def started(self, job: Job) -> None:
        self._told[job.number] = time.monotonic()
        if self.bars is not None:
            self._lines[job.number] = self.bars.add_task(job.label, total=None, words="")
        else:
            self._say(f"started: {job.label} (log: {job.log})")

    def alive(self, job: Job, words: str) -> None:
        if self.bars is not None:
            self.bars.update(self._lines[job.number], words=words[:WORDS])
        elif time.monotonic() - self._told[job.number] >= self.every:
            self._told[job.number] = time.monotonic()
            self._say(f"  {job.label}: {words}")

    def finished(self, done: Finished) -> None:
        self.keep(done)
        self.ended += 1
        self.failed += done.code != 0
        if self.bars is not None:
            if done.job.number in self._lines:
                self.bars.remove_task(self._lines.pop(done.job.number))
            failed = f", {self.failed} failed" if self.failed else ""
            self.bars.update(self._all, advance=1, words=f"{self.ended} of {self.total}" + failed)
        after = f"{self.ended}/{self.total} {done.job.label}"
        if done.code:
            self._say(f"{after}: failed after {duration(done.seconds)}: {done.error}", "red")
        else:
            self._say(f"{after}: done in {duration(done.seconds)}")

    def _say(self, text: str, style: str = "") -> None:
        if self.bars is None:
            print(text, file=self.reporter.stream, flush=True)
            return
        from rich.text import Text

        self.bars.console.print(Text(text, style=style), soft_wrap=True)


def _make_bars(reporter: ConsoleReporter) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}", style="dim", markup=False),
        console=reporter.console,
        transient=True,
    )
