"""One complete artefact: its folder ``outputs/<stage>/<slug>/v<NNN>/``, its manifest, and whether its files are what that says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.forms import misfit
from unierase_cli.store.hashing import RECORDED_LIMIT, hash_file
from unierase_cli.store.json_text import read_json

MANIFEST = "manifest.json"
LOG = "log.txt"
# What of a manifest is read without asking whether it is there or of which type; a folder with another one is no artefact.
FORM = {
    "stage": str, "key": str, "finished?": float, "wall_seconds?": float, "peak_memory_mib?": (float, None), "options?": {str: str},
    "config?": {str: dict}, "inputs?": {str: {"path": str, "key": str}}, "fingerprints?": dict,
    "summary?": ({"steps?": (int, None)}, None),
    "environment?": dict, "phases?": {str: {"seconds?": float}}, "command?": [str], "overrides?": [str], "warnings?": [str],
}  # fmt: skip
# Sections of a recorded configuration that every edit and score has.
SECTIONS = {"model": {"name": str}, "benchmark": {"name": str, "split": str}, "method": {"name": str}, "run": {"seed": int}}


@dataclass(frozen=True)
class Artefact:
    """A complete version: its folder and its manifest."""

    path: Path
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        return self.manifest["stage"]

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def order(self) -> float:
        """Greater for what was made later: when it was finished, by a clock that never goes back (see ``Draft.complete``)."""
        return self.manifest.get("order") or self.manifest.get("finished") or 0.0

    @property
    def config(self) -> dict[str, Any]:
        """The recorded configuration. Raises UserError where the manifest has none."""
        found = {"mode": {"name": "batch"}, **self.manifest.get("config", {})}
        if wrong := misfit(found, {**SECTIONS, "mode": {"name": str}}, "config"):
            raise UserError(f"{self.path / MANIFEST} does not say how it was made: {wrong}", "make the run anew")
        return found

    @property
    def name(self) -> str:
        """``slug@v003``, as commands accept it."""
        return f"{self.path.parent.name}@{self.path.name}"

    @property
    def full_name(self) -> str:
        """``stage/slug@v003``: stages share slugs, this name is unique within an outputs folder."""
        return f"{self.stage}/{self.name}"


def read_artefact(path: Path) -> Artefact:
    """The artefact in a folder. Raises OSError or ValueError for a manifest that is none."""
    manifest = read_json(path / MANIFEST)
    if wrong := misfit(manifest, FORM):
        raise ValueError(wrong)
    return Artefact(path, manifest)


def found_artefact(path: Path) -> Artefact | None:
    """The artefact in a folder, or None where there is none."""
    try:
        return read_artefact(path)
    except (OSError, ValueError):
        return None


def check_whole(artefact: Artefact) -> None:
    """Raises UserError if a file is not what the artefact's manifest says of it. The log is nothing that anybody computes with."""
    for name, record in artefact.manifest.get("files", {}).items():
        path = artefact.path / name
        if name == LOG:
            continue
        if not path.is_file():
            wrong = "is missing"
        elif path.stat().st_size != record["size"]:
            wrong = f"has {path.stat().st_size} bytes, not {record['size']}"
        elif hash_file(path, RECORDED_LIMIT) != record["sha256"]:
            wrong = "has another content than it was written with"
        else:
            continue
        raise UserError(
            f"{artefact.full_name} is damaged: {path} {wrong}",
            f"rm -r {artefact.path}, and what made it makes it anew",
        )
