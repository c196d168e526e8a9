"""What a tracker is, and one command's run in it. A tracker is a file of this folder with ``start``, named as its library."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol, cast

from unierase_cli.contracts import UserError

# The project under which every library lists runs.
PROJECT = "unierase"
FOLDER = "tracker"
UNUSUAL = re.compile(r"[^\w/.-]+")


class Tracker(Protocol):
    """A run in a library. Names of numbers are paths such as ``erase/training/loss``; a series is all but the last part."""

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step of a series."""
        ...

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        """The command's last numbers and its files; ``ok``: whether it succeeded."""
        ...


class Library(Protocol):
    """A module of this folder."""

    def start(self, folder: Path, name: str, settings: Mapping[str, Any]) -> Tracker:
        """Begin a run; ``folder``: where a library that writes files should; ``settings``: by dotted key."""
        ...


def check_tracker(library: str) -> None:
    """Raise UserError if the library of ``run.tracker`` is not installed."""
    if library != "none" and importlib.util.find_spec(library) is None:
        raise UserError(
            f"run.tracker={library} needs the package {library}", f"pip install 'unierase[{library}]', or leave it out"
        )


class Track:
    """One command's run in a library, begun with its first number, so that a command that fails before leaves none."""

    def __init__(self, library: str, outputs: Path, name: str, settings: Mapping[str, Any]) -> None:
        """Raises UserError if the library is not installed."""
        check_tracker(library)
        self.library, self.name, self.settings = library, name, settings
        self.folder = outputs / FOLDER / library
        self._tracker: Tracker | None = None

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step of a series, such as ``erase/training``."""
        with _quiet():
            self._begun().log(UNUSUAL.sub("_", series), step, values)

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        """End the run with its last numbers and files; a failed command that logged nothing leaves no run."""
        if ok or self._tracker is not None:
            with _quiet():
                self._begun().finish({f"final/{UNUSUAL.sub('_', name)}": value for name, value in finals.items()}, files, ok)

    def _begun(self) -> Tracker:
        if self._tracker is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            library = cast(Library, importlib.import_module(f"unierase_cli.tracking.{self.library}"))
            self._tracker = library.start(self.folder.resolve(), self.name, self.settings)
        return self._tracker


@contextmanager
def _quiet() -> Iterator[None]:
    """Standard output belongs to results; what a library prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield
