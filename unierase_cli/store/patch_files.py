"""The files of a step's change, ``patch-<index>.json`` and ``.safetensors``: what can be told of them without reading tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

ENDINGS = ("json", "safetensors")


def patch_path(directory: Path, index: int, ending: str) -> Path:
    """Where a file of step ``index`` lies; ``ending``: json or safetensors."""
    return directory / f"patch-{index:03d}.{ending}"


def steps_in(directory: Path) -> list[int]:
    """Steps with a file of either kind, ascending: half a patch must not pass for none."""
    names = {path.stem.removeprefix("patch-") for ending in ENDINGS for path in directory.glob(f"patch-*.{ending}")}
    return sorted(int(name) for name in names if name.isdigit())


def read_record(directory: Path, index: int) -> dict[str, Any]:
    """The json of step ``index``. Raises UserError when one of the step's files is missing, or the json damaged."""
    path = patch_path(directory, index, "json")
    try:
        if not patch_path(directory, index, "safetensors").exists():
            raise OSError("its safetensors file is missing")
        record = json.loads(path.read_text("utf-8"))
        record["base_hashes"], record["info"]
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged ({error})", "make the edit anew with --force") from error


def stored_shapes(directory: Path, index: int) -> dict[str, list[int]]:
    """Name -> shape of the tensors of step ``index``, from the head of the file alone. Raises UserError when it is damaged."""
    path = patch_path(directory, index, "safetensors")
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its head is longer than the file")
            head = json.loads(stream.read(length))
        return {name: entry["shape"] for name, entry in head.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error})", "make the edit anew with --force"
        ) from error


def bytes_on_disk(directory: Path, index: int) -> int:
    """Size of both files of step ``index``."""
    return sum(patch_path(directory, index, ending).stat().st_size for ending in ENDINGS)
