"""Finding a mode by its file's name. A mode is pure planning: a benchmark becomes a list of steps."""

from __future__ import annotations

from typing import Protocol, cast

from unierase_cli.contracts import Benchmark, Step
from unierase_cli.plugins import Plugins

MODES = Plugins("unierase_cli.modes", "unierase.modes", "mode=", "mode")


class Mode(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.modes``.

    A mode whose steps each start from the original model says so by a module attribute ``INDEPENDENT = True``.
    """

    def plan(self, benchmark: Benchmark) -> list[Step]: ...


def mode_names() -> list[str]:
    """Every mode that can be found."""
    return MODES.names()


def load_mode(name: str) -> Mode:
    """The mode of that name. Raises UserError with near matches when there is none."""
    return cast(Mode, MODES.load(name))
