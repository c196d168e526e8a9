"""Progress and messages of a running job on stderr: progress bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from unierase_cli.cli.amounts import duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Seconds between plain progress lines, and the shortest phase whose duration is printed.
EVERY = 5.0
WORTH_A_LINE = 2.0


class ConsoleReporter:
    """contracts.Reporter for a console; it also records notes and warnings."""

    def __init__(self, stream: TextIO | None = None, *, interactive: bool | None = None, every: float = EVERY) -> None:
        self.stream = stream or sys.stderr
        self.interactive = self.stream.isatty() if interactive is None else interactive
        self.every = every
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._console: Console | None = None
        self._bars: Progress | None = None
        self._open = 0

    @property
    def console(self) -> Console:
        """A rich console on the stream, made on first use because importing rich is slow."""
        if self._console is None:
            from unierase_cli.cli.tables import console_on

            self._console = console_on(self.stream, self.interactive)
        return self._console

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._line(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self._line(f"warning: {text}", "yellow")

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """Yields ``advance(n=1, info="")``."""
        if self.interactive:
            with self._bar(description, total) as advance:
                yield advance
        else:
            yield _Lines(self._line, description, total, self.every)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Print the duration of a long part of the job."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            if seconds >= WORTH_A_LINE:
                self._line(f"  {name}: {duration(seconds)}", "dim")

    def measured(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Nothing: the progress line says it."""

    def _line(self, text: str, style: str = "") -> None:
        if not self.interactive:
            print(text, file=self.stream, flush=True)
            return
        from rich.text import Text

        self.console.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """One set of bars for all running jobs; a nested job gets a second bar."""
        if self._bars is None:
            self._bars = _make_bars(self.console)
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(description, total=total or None, info="")
        bars = self._bars
        try:
            yield lambda n=1, info="": bars.update(task, advance=n, info=info)
        finally:
            self._open -= 1
            bars.remove_task(task)
            if self._open == 0:
                bars.stop()
                self._bars = None


class _Lines:
    """Progress without a terminal: one line every few seconds, and a last line for jobs that took longer than that."""

    def __init__(self, write: Callable[[str], None], description: str, total: int, every: float) -> None:
        self.write, self.description, self.total, self.every = write, description, total, every
        self.done = 0
        self.started = self.told = time.monotonic()

    def __call__(self, n: int = 1, info: str = "") -> None:
        self.done += n
        now = time.monotonic()
        finished = self.total > 0 and self.done >= self.total
        if now - self.told < self.every and not (finished and now - self.started >= self.every):
            return
        self.told = now
        share = f"/{self.total} ({100 * self.done // self.total} %)" if self.total else ""
        spent = duration(now - self.started)
        self.write(f"  {self.description}: {self.done}{share} {spent}{' ' + info if info else ''}")


def _make_bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("<"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}", style="dim", markup=False),
        console=console,
        transient=True,
    )


def _without_nan(value: Any) -> Any:
    """The value with non-finite numbers replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def emit_json(value: Any) -> None:
    """Print the machine-readable result on stdout."""
    import json

    # JSON has no NaN, and strict readers refuse it.
    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    json.dump(_without_nan(value), sys.stdout, indent=1, ensure_ascii=escaped, default=str, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
