"""Writes a model folder with a run's changes, and a record of what was changed.

It is a plain Hugging Face folder. Its ``unierase.json`` names the run and the applied steps and has the hash of every
tensor of the unedited model, by which the original can be recognised. Nothing in the folder reveals what was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.leaving import public_name, write_leaving
from unierase_cli.delivery.patches import Chosen, later_steps, listed
from unierase_cli.store.json_text import decoded, read_json
from unierase_cli.store.new_folder import check_free, new_folder
from unierase_cli.store.patch_files import read_record
from unierase_cli.store.unlearned import FORGOTTEN, RECORD, forgotten_in

if TYPE_CHECKING:
    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.models.load import LoadedModel


class Base(msgspec.Struct):
    """The unedited model: a hash per tensor, its source, and the data type that it was stored in."""

    tensors: dict[str, str]
    source: str | None = None
    stored: str | None = None


class FolderRecord(msgspec.Struct):
    """What ``unierase.json`` records about the run and the unedited model."""

    run: str
    key: str
    steps: list[int]
    dropped: list[int]
    base: Base
    parts_dropped: list[str] = []


def recorded_experiment(chosen: Chosen, device: str = "auto") -> Experiment:
    """The run's configuration, with this machine's device and the data type of the patches, for loading its model here."""
    experiment = Experiment.from_json(chosen.erasure.config)
    model = replace(experiment.model, dtype=chosen.dtype or experiment.model.dtype)
    return replace(experiment, model=model, run=replace(experiment.run, device=device))


def load_folder(chosen: Chosen, folder: str, reporter: Reporter, device: str = "auto") -> LoadedModel:
    """Load any model folder (or hub id) as the run loaded its own."""
    from unierase_cli.models.load import load_model

    experiment = recorded_experiment(chosen, device)
    with reporter.phase("load model"):
        return load_model(experiment.model, experiment.run, path=folder, reporter=reporter)


def write_edited(
    loaded: LoadedModel,
    chosen: Chosen,
    destination: Path,
    reporter: Reporter,
    save: Callable[[AppliedPatch, Path], None] | None = None,
) -> dict[str, Any]:
    """Apply the chosen steps to an unedited model and write it with tokenizer and record; the model stays edited.

    ``save`` writes the patched model to a folder: as a plain Hugging Face folder unless given. Raises UserError if the
    folder is taken or the patches belong to another model.
    """
    check_free(destination)
    for step in chosen.dropped:
        if later := later_steps(chosen, step):
            rehearsed = any(_rehearses(record.info) for record in chosen.records())
            reporter.warn(
                f"steps {listed(later)} were computed with step {step} applied{' and forgot its facts again' * rehearsed}: without "
                "it they differ from those of a run that never had it; --replan computes that run"
            )
    if chosen.parts_dropped:
        reporter.warn(
            f"{', '.join(chosen.parts_dropped)} left out: later parts were computed on top, so the model differs from one of a "
            "run without"
        )
    # Report a mismatch before spending minutes on hashing all tensors.
    _check(loaded, chosen)
    with new_folder(destination) as folder:
        record = _fill(folder, loaded, chosen, reporter, save or _save_plain)
    names = list(record["unlearning_tokens"])
    told = ", ".join(names) or "none"
    reporter.note(
        f"{chosen.erasure.name} (steps {listed(chosen.steps)}) is merged in {destination}; unlearning tokens: {told}"
    )
    if save is None:
        reporter.note("`unierase patch revert` undoes it, with the original model (--base FOLDER)")
    return {
        "run": chosen.erasure.name,
        "destination": str(destination),
        "steps": list(chosen.steps),
        "dropped": list(chosen.dropped),
        "parts_dropped": list(chosen.parts_dropped),
        "unlearning_tokens": names,
        "weights": str(loaded.model.dtype).removeprefix("torch."),
    }


def read_folder_record(folder: Path) -> FolderRecord | None:
    """The record of an edited folder, or None if it has none; raises UserError if the record is damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return decoded(read_json(path), FolderRecord)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error})", "use the original model") from error


def hash_parameters(loaded: LoadedModel) -> dict[str, str]:
    """Name -> hash of every parameter; a tied parameter appears once."""
    from unierase_cli.editing.weights import hash_tensor

    return {name: hash_tensor(parameter) for name, parameter in loaded.model.named_parameters()}


def _save_plain(applied: AppliedPatch, folder: Path) -> None:
    from unierase_cli.models.files import save_folder

    save_folder(applied.loaded.model, applied.loaded.tokenizer, folder)


def _fill(
    folder: Path, loaded: LoadedModel, chosen: Chosen, reporter: Reporter, save: Callable[[AppliedPatch, Path], None]
) -> dict[str, Any]:
    """Edit the model and write it with its record; returns the record."""
    from unierase_cli.editing.apply import apply_patches

    base = _describe_base(loaded, reporter)
    with reporter.phase("apply"):
        applied = apply_patches(loaded, chosen.patches())
    with reporter.phase("write"):
        save(applied, folder)
    names = [str(loaded.tokenizer.convert_ids_to_tokens(i)) for i in loaded.unlearn_ids]
    record = {
        "format": 1,
        "run": public_name(chosen.erasure),
        "key": chosen.erasure.key,
        "steps": list(chosen.steps),
        "dropped": list(chosen.dropped),
        "parts_dropped": list(chosen.parts_dropped),
        "unlearning_tokens": dict(zip(names, loaded.unlearn_ids, strict=True)),
        FORGOTTEN: _forgotten(loaded, chosen),
        "base": base,
    }
    return write_leaving(folder / RECORD, "record", record)


def _rehearses(info: Mapping[str, Any]) -> bool:
    """Whether a step, or a part of it, forgot facts of earlier requests again."""
    return any("rehearsed" in one for one in (info, *info.get("parts", {}).values()))


def _check(loaded: LoadedModel, chosen: Chosen) -> None:
    from unierase_cli.editing.weights import AppliedPatch

    wanted = {name: value for record in chosen.records() for name, value in record.base_hashes.items()}
    AppliedPatch(loaded).check(wanted)


def _forgotten(loaded: LoadedModel, chosen: Chosen) -> list[str]:
    """Hashes of the facts that the chosen steps forget and that the unedited model had already forgotten.

    The record of a whole step has those of the step, and is read whatever parts of it are dropped.
    """
    source = Path(loaded.source)
    before = forgotten_in(source) if source.is_dir() else ()
    records = (read_record(chosen.erasure.whole, step) for step in chosen.steps)
    now = [name for record in records for name in record.info.get(FORGOTTEN, ())]
    return list(dict.fromkeys([*before, *now]))


def _describe_base(loaded: LoadedModel, reporter: Reporter) -> dict[str, Any]:
    from unierase_cli.models.files import read_config, resolve

    # The loaded model has our own data type, not the checkpoint's; for a hub model the checkpoint's is not looked up.
    stored = getattr(read_config(resolve(loaded.source), None), "dtype", None) if Path(loaded.source).is_dir() else None
    with reporter.phase("hash"):
        tensors = hash_parameters(loaded)
    return {
        "source": loaded.source,
        "fingerprint": loaded.fingerprint,
        "stored": None if stored is None else str(stored).removeprefix("torch."),
        "tensors": tensors,
    }
