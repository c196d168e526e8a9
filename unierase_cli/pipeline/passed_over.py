"""Explains why artefacts of the same name are not used: interrupted with other settings, or made by other code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unierase_cli.plugins import CODE
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json

SHOWN = 4


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def passed_over(store: Store, stage: str, slug: str, settings: dict[str, Any]) -> Iterator[str]:
    """One sentence for each interrupted version of this name that was started with other (flat) settings."""
    for path, others in store.unfinished(stage, slug):
        keys = [key for key in dict.fromkeys([*others, *settings]) if others.get(key) != settings.get(key)]
        if others and keys:
            told = [_told(key, others, settings) for key in keys[:SHOWN]]
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            yield f"not resuming {path}, which was interrupted with other settings: {'; '.join(told)}{more}"


def with_other_code(store: Store, stage: str, slug: str, key_of: dict[str, Any]) -> Iterator[str]:
    """One sentence if only changed code prevents reuse of the newest artefact of this name; ``key_of``: the unhashed key."""
    now = key_of["fingerprints"]
    for artefact in reversed([a for a in store.list(stage) if a.path.parent.name == slug]):
        before = artefact.manifest.get("fingerprints", {})
        then = {**now, **{name: before.get(name) for name in now if name.startswith(CODE)}}
        changed = [name for name in now if then[name] != now[name]]
        if changed and artefact.key == hash_json({**key_of, "fingerprints": then}):
            yield f"not reusing {artefact.path}: {'; '.join(_told(name, then, now) for name in changed)}"
            return


def _told(key: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    return f"the {key} has changed" if key.startswith(CODE) else f"{key} was {before.get(key)}, is {now.get(key)}"
