"""Finished parts of an unfinished step, saved so that a killed chain goes on after them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.store.patch_files import patch_path

STATE = ".state-after-{:03d}-{}.safetensors"


def keep_part(directory: Path, index: int, place: int, patch: Patch, state: EditState) -> None:
    """Save a part of step ``index``: the state after it first, then its patch, whose json completes it."""
    state.save(directory / STATE.format(index, place))
    patch.save(directory, index, place)


def finished_part(directory: Path, index: int, place: int, name: str) -> tuple[Patch, EditState] | None:
    """What ``keep_part`` saved, or None."""
    file = directory / STATE.format(index, place)
    if not file.exists() or not patch_path(directory, index, "json", place).exists():
        return None
    return replace(Patch.read(directory, (index, place)), part=name), EditState.load(file)


def clear_parts(directory: Path) -> None:
    """Remove the states; the parts' patches stay, since they are the step's."""
    for path in directory.glob(".state-after-*"):
        path.unlink()
