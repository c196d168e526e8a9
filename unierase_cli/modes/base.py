"""Finding a mode by its file's name. A mode is pure planning: a benchmark becomes a list of steps."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from unierase_cli.contracts import Benchmark, Step, UserError

GROUP = "unierase.modes"


class Mode(Protocol):
    """A module in this folder, or an object behind an entry point of group ``unierase.modes``.

    A mode whose steps each start from the original model says so by a module attribute ``INDEPENDENT = True``.
    """

    def plan(self, benchmark: Benchmark) -> list[Step]: ...


def mode_names() -> list[str]:
    """Every mode that can be found: files of this folder, then entry points."""
    here = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "base"]
    return sorted({*here, *(point.name for point in entry_points(group=GROUP))})


def load_mode(name: str) -> Mode:
    """The mode of that name, imported now. Raises UserError with near matches when there is none."""
    if name.isidentifier() and name != "base" and (Path(__file__).parent / f"{name}.py").exists():
        return cast(Mode, importlib.import_module(f"unierase_cli.modes.{name}"))
    for point in entry_points(group=GROUP):
        if point.name == name:
            return cast(Mode, point.load())
    names = mode_names()
    near = get_close_matches(name, names, n=1)
    raise UserError(
        f"mode={name} is not a mode", f"did you mean mode={near[0]}?" if near else f"choose one of: {', '.join(names)}"
    )
