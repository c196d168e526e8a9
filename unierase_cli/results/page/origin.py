"""Where a page's numbers come from: artefacts with their keys, versions, machine, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unierase_cli.pipeline.passed_over import flat
from unierase_cli.results.page.document import escaped, pairs
from unierase_cli.store.artefact import Artefact

# Sections that say where and how a run was made, not what it is.
LEFT_OUT = ("run", "launcher")


def origin_of(artefacts: Mapping[str, Artefact]) -> dict[str, str]:
    """Name -> the artefact's name, key and seconds; then the versions and the machine of the last one."""
    found = {name: f"{a.full_name}, key {a.key}{_seconds(a)}" for name, a in artefacts.items()}
    last = list(artefacts.values())[-1].manifest if artefacts else {}
    environment = dict(last.get("environment", {}))
    packages = environment.pop("packages", {})
    if packages:
        found["versions"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    found |= {name.replace("_", " "): str(value) for name, value in environment.items() if value is not None}
    if machine := last.get("machine"):
        found["machine"] = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    return found


def settings_of(config: Mapping[str, Any]) -> str:
    """The resolved configuration, one ``key=value`` a line."""
    kept = {name: value for name, value in config.items() if name not in LEFT_OUT}
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False, default=str)}" for key, value in flat(kept).items())


def origin_html(about: Mapping[str, str], settings: str) -> str:
    """All of it, for the end of a page."""
    return pairs(dict(about)) + (f"<h3>Settings</h3><pre>{escaped(settings)}</pre>" if settings else "")


def _seconds(artefact: Artefact) -> str:
    seconds = artefact.manifest.get("wall_seconds")
    return "" if seconds is None else f", {seconds:.0f} s"
