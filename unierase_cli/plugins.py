"""Finding a part of the house by its name: a file of the room it belongs to, else an entry point of another package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class Plugins:
    """The parts of one kind. ``package``: the room; ``group``: of the entry points; ``word``: what stands before a name that
    a user types (``method=``); ``kind``: what a part is called; ``hidden``: files of the room that are no parts.
    """

    package: str
    group: str
    word: str
    kind: str
    hidden: Collection[str] = field(default_factory=lambda: {"base"})

    def names(self) -> list[str]:
        """Every part that can be found, without importing any: files, then entry points."""
        return sorted({*self._files(), *(point.name for point in entry_points(group=self.group))})

    def load(self, name: str) -> Any:
        """The part of that name, imported now. Raises UserError with near matches when there is none."""
        if name in self._files():
            return importlib.import_module(f"{self.package}.{name}")
        for point in entry_points(group=self.group):
            if point.name == name:
                return point.load()
        names = self.names()
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {self.word}{near[0]}?" if near else f"choose one of: {', '.join(names)}"
        raise UserError(f"{self.word}{name} is not a {self.kind}", hint)

    def _files(self) -> set[str]:
        room = importlib.import_module(self.package)
        found = pkgutil.iter_modules(room.__path__)
        return {info.name for info in found if not info.ispkg and info.name not in self.hidden}
