"""Interrupted runs that a command does not go on with, because its settings are others: said, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unierase_cli.store.artefacts import Store

SHOWN = 4


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def passed_over(store: Store, stage: str, slug: str, settings: dict[str, Any]) -> Iterator[str]:
    """One sentence for each interrupted version of this name that was started with other settings than these (flat)."""
    for path, others in store.unfinished(stage, slug):
        keys = [key for key in dict.fromkeys([*others, *settings]) if others.get(key) != settings.get(key)]
        if others and keys:
            told = [f"{key} was {others.get(key)}, is {settings.get(key)}" for key in keys[:SHOWN]]
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            yield f"not going on with {path}, which was interrupted with other settings: {'; '.join(told)}{more}"
