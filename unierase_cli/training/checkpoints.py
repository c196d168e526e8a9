"""Checkpoints of an interrupted training: the two newest are kept, each with a hash that detects damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.sizes import CHECKPOINTS
from unierase_cli.store.hashing import hash_file
from unierase_cli.store.json_text import read_json, write_json
from unierase_cli.store.tensors import load_tensors, save_tensors


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write ``checkpoint-<step>.safetensors`` and then its json with the file's hash; all but the two newest are removed."""
    path = folder / f"checkpoint-{step:06d}.safetensors"
    save_tensors(path, dict(tensors))
    write_json(path.with_suffix(".json"), {"step": step, "sha256": hash_file(path), **info})
    for old in _found(folder)[CHECKPOINTS:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, identity: Mapping[str, Any], reporter: Reporter
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """(info, tensors) of the newest intact checkpoint, or None. ``identity``: the settings that it must have been made with.

    A damaged checkpoint is reported, and the one before it is used. Raises UserError with the differences if it was made with
    other settings.
    """
    for record in _found(folder):
        path = record.with_suffix(".safetensors")
        try:
            info = read_json(record)
            whole = hash_file(path) == info["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            reporter.warn(f"{path.name} is damaged and is skipped")
            continue
        if differences := _differences(info.get("identity", {}), identity):
            raise UserError(
                f"{path} was made with other settings: {'; '.join(differences)}",
                "run with the old settings, or start again with --force",
            )
        return info, load_tensors(path)
    return None


def clear_checkpoints(folder: Path) -> None:
    """Remove all checkpoints; call this once the result is saved."""
    for path in [*folder.glob("checkpoint-*.json"), *folder.glob("checkpoint-*.safetensors")]:
        path.unlink()


def _found(folder: Path) -> list[Path]:
    """The checkpoints' json files, newest first."""
    return sorted(folder.glob("checkpoint-*.json"), reverse=True)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    new = json.loads(json.dumps(new))
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys]
