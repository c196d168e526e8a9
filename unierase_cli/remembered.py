"""Remembers on disk what takes long to compute and depends only on what its key is made of.

Every entry is a small JSON file in ``$UNIERASE_CACHE`` (``off``: nothing is remembered), else in the folder ``unierase``
of the user's cache. What is missing or is no JSON is not recalled, and what cannot be written is not remembered; whoever
recalls a value checks its form.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

VARIABLE, OFF = "UNIERASE_CACHE", "off"
# Entries of one kind; half of them, the oldest, are removed when there are more.
MOST = 1000


def recall(kind: str, key: object) -> Any:
    """The value remembered for ``key`` (JSON data), or None."""
    path = _path(kind, key)
    with suppress(OSError, ValueError):
        return None if path is None else json.loads(path.read_text("utf-8"))
    return None


def remember(kind: str, key: object, value: Any) -> None:
    """Remember ``value`` for ``key`` if it is JSON data that is read back as it was."""
    path = _path(kind, key)
    if path is None:
        return
    with suppress(OSError, ValueError, TypeError):
        text = json.dumps(value)
        if json.loads(text) != value:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other processes may write the same entry: each writes a file of its own, and the last one replaces the others.
        own = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            own.write_text(text, "utf-8")
            own.replace(path)
        finally:
            own.unlink(missing_ok=True)
        _make_room(path.parent)


def _path(kind: str, key: object) -> Path | None:
    named = os.environ.get(VARIABLE)
    if named == OFF:
        return None
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "unierase"
    # A user without a home folder.
    if base.parts[0] == "~":
        return None
    return base / kind / f"{sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"


def _make_room(folder: Path) -> None:
    entries = list(folder.iterdir())
    if len(entries) > MOST:
        for path in sorted(entries, key=lambda path: path.stat().st_mtime)[: MOST // 2]:
            path.unlink(missing_ok=True)
