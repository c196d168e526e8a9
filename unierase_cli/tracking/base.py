"""What a tracker is, and one command's run in it. A tracker is a file of this folder with ``start``, named as its library."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
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
    """One command's run in a library, begun with its first number, so that a command that fails before leaves none.

    A library that fails is given up with a warning: a training does not end because a server is gone.
    """

    def __init__(self, library: str, outputs: Path, name: str, settings: Mapping[str, Any], warn: Callable[[str], None]) -> None:
        """Raises UserError if the library is not installed."""
        check_tracker(library)
        self.library, self.name, self.settings, self.warn = library, name, settings, warn
        self.given_up = False
        self.folder = outputs / FOLDER / library
        self._tracker: Tracker | None = None

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step of a series, such as ``erase/training``."""
        self._tell(lambda tracker: tracker.log(UNUSUAL.sub("_", series), step, values))

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        """End the run with its last numbers and files; a failed command that logged nothing leaves no run."""
        if ok or self._tracker is not None:
            named = {f"final/{UNUSUAL.sub('_', name)}": value for name, value in finals.items()}
            self._tell(lambda tracker: tracker.finish(named, files, ok))

    def _begun(self) -> Tracker:
        if self._tracker is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            library = cast(Library, importlib.import_module(f"unierase_cli.tracking.{self.library}"))
            self._tracker = library.start(self.folder.resolve(), self.name, self.settings)
        return self._tracker

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        """What a library prints goes to stderr, since standard output belongs to results; its first failure is its last."""
        if self.given_up:
            return
        try:
            with redirect_stdout(sys.stderr):
                what(self._begun())
        except Exception as error:  # every library has its own, and those of its network client
            self.given_up = True
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.warn(f"run.tracker={self.library} failed and is left out from here on: {first}")
