"""Restores the unedited model of an edited folder from the original, and checks every tensor against recorded hashes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.edited_folder import RECORD, hash_parameters, load_folder, read_folder_record
from unierase_cli.delivery.patches import Chosen
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.new_folder import check_free, new_folder

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


def revert(
    folder: Path,
    erasure: Artefact,
    destination: Path,
    reporter: Reporter,
    *,
    base: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the model that apply or export made ``folder`` from, with its original tokenizer.

    An edited folder records only hashes of the unedited model, so the weights come from the original, ``base`` (a
    folder or a hub id). Nothing is written unless every tensor has the recorded hash. Raises UserError if a hash
    differs, if ``base`` is missing, or if the folder was not made from this run.
    """
    check_free(destination)
    record = read_folder_record(folder)
    if record is None:
        raise UserError(
            f"{folder} has no {RECORD}, which records the applied steps and the unedited model",
            "use the original model; folders by `unierase patch apply` and `unierase export` have the record",
        )
    if record.key != erasure.key:
        raise UserError(f"{folder} was edited with {record.run}, not with {erasure.name}", f"name {record.run}")
    before = record.base
    if base is None:
        raise UserError(
            f"{folder} does not contain its unedited tensors; only the original model has them",
            f"add --base {before.source or 'FOLDER'}",
        )
    original = load_folder(
        Chosen(erasure, tuple(record.steps), tuple(record.dropped), tuple(record.parts_dropped)), base, reporter, device
    )
    with reporter.phase("check"):
        _check(hash_parameters(original), before.tensors, base, folder)
    kind = _narrow(original, before.stored)
    from unierase_cli.models.files import save_folder

    with reporter.phase("write"), new_folder(destination) as partial:
        save_folder(original.model, original.tokenizer, partial)
    checked = len(before.tensors)
    reporter.note(f"{destination}: all {checked} tensors have the hashes of the unedited model; written in {kind}")
    return {
        "run": erasure.name,
        "destination": str(destination),
        "steps": record.steps,
        "tensors_checked": checked,
        "bit_exact": True,
        "weights": kind,
    }


def _check(found: Mapping[str, str], wanted: Mapping[str, str], base: str, folder: Path) -> None:
    differing = [name for name in wanted if found.get(name) != wanted[name]] or [name for name in found if name not in wanted]
    if differing:
        name = differing[0]
        here, recorded = ((hashes.get(name) or "nothing:none").partition(":")[2][:12] for hashes in (found, wanted))
        raise UserError(
            f"{base} is not the model that {folder} was made from: {len(differing)} tensors differ, e.g. {name} "
            f"(sha256 {here}, recorded {recorded})",
            "give --base the folder or hub id that the run's model came from",
        )


def _narrow(loaded: LoadedModel, stored: str | None) -> str:
    """Convert to the data type of the original checkpoint if no value changes; returns the type's name."""
    import torch

    own = loaded.model.dtype
    dtype = getattr(torch, stored or "", None)
    if isinstance(dtype, torch.dtype) and dtype != own:
        values = [p.detach() for p in loaded.model.parameters()]
        if all(torch.equal(value.to(dtype).to(value.dtype), value) for value in values):
            loaded.model.to(dtype)  # type: ignore[arg-type]  # as in models/load
    return str(loaded.model.dtype).removeprefix("torch.")
