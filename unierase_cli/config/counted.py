"""What of the configuration counts: a section's fields enter the keys of artefacts, but for those that are marked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

# Metadata of a field that changes no result: a preset's name, a note, how work is watched, where it is done.
UNCOUNTED = {"counts": "no"}
# Metadata of a field that leads to rows or texts (a file, a number of rows): their hash counts, as one of a stage's fingerprints.
BY_CONTENT = {"counts": "by content"}


def counted(section: Any) -> dict[str, Any]:
    """The fields of a section that count, as plain data; those of the sections within it too."""
    return {f.name: _plain(getattr(section, f.name)) for f in fields(section) if "counts" not in f.metadata}


def uncounted_keys(section: Any, prefix: str = "") -> list[str]:
    """Dotted keys of the fields of a section, and of those within it, that change no result."""
    found = []
    for one in fields(section):
        value, key = getattr(section, one.name), prefix + one.name
        if one.metadata == UNCOUNTED:
            found.append(key)
        elif is_dataclass(value):
            found += uncounted_keys(value, f"{key}.")
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return counted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, dict) else value
