"""The files of a step's change, and what can be read without loading tensors.

A step's change is ``patch-<index>.json`` and ``.safetensors``. Where several parts of a method changed the model (a chain),
these are the last part's, and the earlier ones' are ``patch-<index>-<place>``; ``parts`` in the json names all of them.
"""

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
# In ``info``: the name of the part of a chain that made a change.
PART = "part"
# The fields of a record's ``info`` that are read.
INFO = msgspec.defstruct("Info", [("facts", list[Any], []), ("step", int, 0), (PART, str | None, None)])


class TokenRecord(msgspec.Struct):
    """Unlearning tokens without their rows (see ``models.token_rows.TokenRows``), stored in ``token.json`` and in a step's json."""

    names: list[str]
    ids: list[int]
    assignment: dict[str, int] = {}
    targets: dict[str, str] = {}
    info: dict[str, Any] = {}


class PatchRecord(msgspec.Struct):
    """A step's json: what changed (see ``editing.patch.Patch``), and the hashes of the tensors that the patch applies to.

    ``parts``: names of the parts of the step, in their order, if there are several; only in the last part's json. Older
    patches lack ``dense``, ``named`` and ``parts``.
    """

    layers: list[int]
    tokens: TokenRecord | None
    base_hashes: dict[str, str]
    info: dict[str, Any]
    dense: list[str] = []
    named: list[str] = []
    parts: list[str] = []


# A part of a step: the step's index, and the part's place; None for the last part, or the only one.
Place = tuple[int, int | None]


def patch_path(directory: Path, index: int, ending: str, part: int | None = None) -> Path:
    """Path of a file of step ``index``; ``ending``: json or safetensors; ``part``: the place of a part before the last."""
    return directory / (f"patch-{index:03d}.{ending}" if part is None else f"patch-{index:03d}-{part}.{ending}")


def places_of(record: PatchRecord, index: int) -> list[Place]:
    """The parts of step ``index`` in their order, from the record of its last part."""
    return [*((index, place) for place in range(len(record.parts) - 1)), (index, None)]


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


def read_record(directory: Path, index: int, part: int | None = None) -> PatchRecord:
    """The json of step ``index``, or of a part of it. Raises UserError if a file is missing or the json is damaged."""
    path = patch_path(directory, index, "json", part)
    try:
        for ending in ENDINGS:
            file = patch_path(directory, index, ending, part)
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


def stored_shapes(directory: Path, index: int, part: int | None = None) -> dict[str, list[int]]:
    """Name -> shape of the tensors of step ``index``, read from the file's header. Raises UserError if it is damaged."""
    path = patch_path(directory, index, "safetensors", part)
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
    if len(record.parts) == 1 or len(set(record.parts)) < len(record.parts):
        return "its parts are not several of different names"
    if tokens and (len(tokens.names) != len(tokens.ids) or any(i < 0 for i in tokens.ids)):
        return "its tokens' names and ids do not match"
    return None


def bytes_on_disk(directory: Path, index: int, part: int | None = None) -> int:
    """Size of both files of step ``index``, or of a part of it."""
    return sum(patch_path(directory, index, ending, part).stat().st_size for ending in ENDINGS)
