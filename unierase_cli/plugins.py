"""Finds a part by name: a file of its room, else an entry point of another package.

A part's constants and the hash of its code are read without importing it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.sources import Unread, code_hash, constant

# Prefix of fingerprints that hash a part's code.
CODE = "code of "


@dataclass(frozen=True)
class Plugins:
    """The parts of one kind.

    ``package``: the room. ``group``: the entry point group. ``word``: the prefix of a name that a user types
    (``method=``). ``kind``: what a part is called. ``hidden``: files of the room that are not parts.
    ``shared``: packages and modules outside the room whose code counts too, as far as a part imports it.
    """

    package: str
    group: str
    word: str
    kind: str
    hidden: Collection[str] = field(default_factory=lambda: {"base"})
    shared: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Every available part, without importing any: files, then entry points."""
        return sorted({*self._files(), *(point.name for point in entry_points(group=self.group))})

    def load(self, name: str) -> Any:
        """Import and return the part of that name. Raises UserError with near matches if there is none."""
        point = self._point(name)
        return importlib.import_module(f"{self.package}.{name}") if point is None else point.load()

    def code(self, name: str) -> str:
        """The hash of a part's code (``sources.code_hash``), or its package's version if it has no file.

        Raises UserError if there is no such part.
        """
        point = self._point(name)
        found = code_hash(f"{self.package}.{name}" if point is None else point.module, self.package, *self.shared)
        return found or f"{name} without a file, {point.dist.version if point and point.dist else 'no version'}"

    def says(self, name: str, constant_name: str, default: Any = None) -> Any:
        """A constant of a part's file, such as ``SETTINGS``.

        The part is imported only if the value is not a literal or the part has no file. Raises UserError if there is no
        such part.
        """
        point = self._point(name)
        if point is None or not point.attr:
            with suppress(Unread):
                return constant(f"{self.package}.{name}" if point is None else point.module, constant_name, default)
        return getattr(self.load(name), constant_name, default)

    def _point(self, name: str) -> EntryPoint | None:
        """A part's entry point, None for a file of the room. Raises UserError with near matches if there is no such part."""
        if name in self._files():
            return None
        for point in entry_points(group=self.group):
            if point.name == name:
                return point
        names = self.names()
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {self.word}{near[0]}?" if near else f"choose one of: {', '.join(names)}"
        article = "an" if self.kind[0] in "aeiou" else "a"
        raise UserError(f"{self.word}{name} is not {article} {self.kind}", hint)

    def _files(self) -> set[str]:
        room = importlib.import_module(self.package)
        found = pkgutil.iter_modules(room.__path__)
        return {info.name for info in found if not info.ispkg and info.name not in self.hidden}


def code_of(kind: str, parts: Plugins, *names: str) -> dict[str, str]:
    """Fingerprints of the parts' code: ``code of method gradient`` -> its hash."""
    return {f"{CODE}{kind} {name}": parts.code(name) for name in names}
