"""The files of a step's change, ``patch-<index>.json`` and ``.safetensors``, and what can be read without loading tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from unierase_cli.contracts import UserError
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.json_text import ROWS, decoded, read_json
from unierase_cli.store.tensors import shapes_in

ENDINGS = ("json", "safetensors")
# Seconds of every step, kept apart from reproducible content.
TIMES = "times.jsonl"
# The fields of a record's ``info`` that are read.
INFO = msgspec.defstruct("Info", [("facts", list[Any], []), ("step", int, 0)])


class TokenRecord(msgspec.Struct):
    """Unlearning tokens without their rows (see ``models.token_rows.TokenRows``), stored in ``token.json`` and in a step's json."""

    names: list[str]
    ids: list[int]
    assignment: dict[str, int] = {}
    targets: dict[str, str] = {}
    info: dict[str, Any] = {}


class PatchRecord(msgspec.Struct):
    """A step's json: what changed (see ``editing.patch.Patch``), and the hashes of the tensors that the patch applies to.

    Older patches lack ``dense`` and ``named``.
    """

    layers: list[int]
    tokens: TokenRecord | None
    base_hashes: dict[str, str]
    info: dict[str, Any]
    dense: list[str] = []
    named: list[str] = []


def patch_path(directory: Path, index: int, ending: str) -> Path:
    """Path of a file of step ``index``; ``ending``: json or safetensors."""
    return directory / f"patch-{index:03d}.{ending}"


def steps_in(directory: Path) -> list[int]:
    """Steps that have either file, ascending, so that half a patch is not overlooked."""
    names = {path.stem.removeprefix("patch-") for ending in ENDINGS for path in directory.glob(f"patch-*.{ending}")}
    return sorted({int(name) for name in names if re.fullmatch("[0-9]+", name)})


def step_numbers(artefact: Artefact) -> list[int]:
    """``steps_in`` the artefact's folder, without the manifest check, so that callers can report missing steps by number."""
    return steps_in(artefact.path)


def claimed_steps(artefact: Artefact) -> Iterator[tuple[int, int]]:
    """Every step by its file name, and the step number recorded in the file; without the manifest check, as above."""
    for index in steps_in(artefact.path):
        yield index, read_record(artefact.path, index).info.get("step", index)


def first_gap(steps: Sequence[int], count: int) -> int | None:
    """The first of ``count`` steps that is missing from ``steps`` (ascending, non-negative); None if all are present.

    ``count`` and the steps come from untrusted files, so time and memory do not grow with their values.
    """
    place = next((place for place, step in enumerate(steps) if place != step), len(steps))
    return place if place < max(count, (steps[-1] + 1) if steps else 0) else None


def read_record(directory: Path, index: int) -> PatchRecord:
    """The json of step ``index``. Raises UserError if one of the step's files is missing or the json is damaged."""
    path = patch_path(directory, index, "json")
    try:
        for ending in ENDINGS:
            file = patch_path(directory, index, ending)
            if not file.exists():
                raise OSError(f"its {ending} file is missing")
            if not file.resolve().is_relative_to(directory.resolve()):
                raise OSError(f"its {ending} file is a link out of the folder")
        record = decoded(read_json(path, ROWS), PatchRecord)
        decoded(record.info, INFO, "info")
        if wrong := _differing(record):
            raise ValueError(wrong)
        return record
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error})", "make the edit again with --force") from error


def stored_shapes(directory: Path, index: int) -> dict[str, list[int]]:
    """Name -> shape of the tensors of step ``index``, read from the file's header. Raises UserError if it is damaged."""
    path = patch_path(directory, index, "safetensors")
    try:
        return shapes_in(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error})", "make the edit again with --force"
        ) from error


def _differing(record: PatchRecord) -> str | None:
    """What is wrong with values of the right types, or None."""
    tokens = record.tokens
    if any(value.count(":") != 1 for value in record.base_hashes.values()):
        return "a base hash is not TYPE:SHA256"
    if any(layer < 0 for layer in record.layers):
        return "a layer is below 0"
    if tokens and (len(tokens.names) != len(tokens.ids) or any(i < 0 for i in tokens.ids)):
        return "its tokens' names and ids do not match"
    return None


def bytes_on_disk(directory: Path, index: int) -> int:
    """Size of both files of step ``index``."""
    return sum(patch_path(directory, index, ending).stat().st_size for ending in ENDINGS)
