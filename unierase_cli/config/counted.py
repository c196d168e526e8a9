"""Which configuration fields count: all fields of a section enter the keys of artefacts, except those marked here."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

# Metadata of a field that does not change results: a preset's name, a note, progress settings, the place of
# computation.
UNCOUNTED = {"counts": "no"}
# Metadata of a field that counts only if it is set: at its default, a result is that of versions without the field.
IF_SET = {"counts": "if set"}
# Metadata of a field that refers to rows or texts (a file, a number of rows): their hash counts, as a fingerprint of a
# stage.
BY_CONTENT = {"counts": "by content"}


def counted(section: Any) -> dict[str, Any]:
    """The fields of a section and its nested sections that count, as plain data."""
    return {f.name: _plain(getattr(section, f.name)) for f in fields(section) if _counts(section, f)}


def _counts(section: Any, field: Field[Any]) -> bool:
    if field.metadata == IF_SET:
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        return bool(getattr(section, field.name) != usual)
    return "counts" not in field.metadata


def uncounted_keys(section: Any, prefix: str = "") -> list[str]:
    """Dotted keys of the fields of a section and its nested sections that do not change results."""
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
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value
