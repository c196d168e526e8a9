"""A model folder with a run's changes in it, and the note beside it that says what was changed.

The folder is a plain Hugging Face folder. ``unierase.json`` in it says which run and steps were put in and has the hash of every
tensor of the model before, by which the original is known again; nothing in the folder gives back what was forgotten.
"""

from __future__ import annotations

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
from unierase_cli.store.unlearned import FORGOTTEN, RECORD, forgotten_in

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


class Base(msgspec.Struct):
    """The model before: a hash for every tensor, where it came from, the type that it was stored in."""

    tensors: dict[str, str]
    source: str | None = None
    stored: str | None = None


class FolderRecord(msgspec.Struct):
    """What ``unierase.json`` says of the run, and of the model before."""

    run: str
    key: str
    steps: list[int]
    dropped: list[int]
    base: Base


def recorded_experiment(chosen: Chosen, device: str = "auto") -> Experiment:
    """The run's configuration for loading its model here: on this machine's device, in the type that the patches were made on."""
    experiment = Experiment.from_json(chosen.erasure.config)
    model = replace(experiment.model, dtype=chosen.dtype or experiment.model.dtype)
    return replace(experiment, model=model, run=replace(experiment.run, device=device))


def load_folder(chosen: Chosen, folder: str, reporter: Reporter, device: str = "auto") -> LoadedModel:
    """Any model folder (or hub id) as the run loaded its own."""
    from unierase_cli.models.load import load_model

    experiment = recorded_experiment(chosen, device)
    with reporter.phase("load model"):
        return load_model(experiment.model, experiment.run, path=folder, reporter=reporter)


def write_edited(loaded: LoadedModel, chosen: Chosen, destination: Path, reporter: Reporter) -> dict[str, Any]:
    """Put the chosen steps on an unedited model and write it, tokenizer and record included. The model is left edited.

    Raises UserError when the folder is taken, or the patches belong to another model.
    """
    check_free(destination)
    for step in chosen.dropped:
        later = later_steps(chosen)
        if later:
            reporter.warn(
                f"steps {listed(later)} were computed with step {step} in place: without it they are not what a run that "
                "never made it would give"
            )
    # A mismatch is told before minutes are spent on hashing everything.
    _check(loaded, chosen)
    with new_folder(destination) as folder:
        record = _fill(folder, loaded, chosen, reporter)
    names = list(record["unlearning_tokens"])
    told = ", ".join(names) or "none"
    reporter.note(
        f"{chosen.erasure.name} (steps {listed(chosen.steps)}) is merged in {destination}; unlearning tokens: {told}"
    )
    reporter.note("`unierase patch revert` takes it back, with the original model (--base FOLDER)")
    return {
        "run": chosen.erasure.name,
        "destination": str(destination),
        "steps": list(chosen.steps),
        "dropped": list(chosen.dropped),
        "unlearning_tokens": names,
        "weights": str(loaded.model.dtype).removeprefix("torch."),
    }


def read_folder_record(folder: Path) -> FolderRecord | None:
    """The record of an edited folder; None for a folder without one. Raises UserError when it is damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return decoded(read_json(path), FolderRecord)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error})", "take the original model") from error


def hash_parameters(loaded: LoadedModel) -> dict[str, str]:
    """Name -> hash of every parameter; a tied one counts once."""
    from unierase_cli.editing.weights import hash_tensor

    return {name: hash_tensor(parameter) for name, parameter in loaded.model.named_parameters()}


def _fill(folder: Path, loaded: LoadedModel, chosen: Chosen, reporter: Reporter) -> dict[str, Any]:
    """Edit the model and write it with its record, which is returned."""
    from unierase_cli.editing.apply import apply_patches
    from unierase_cli.models.files import save_folder

    base = _describe_base(loaded, reporter)
    with reporter.phase("apply"):
        apply_patches(loaded, chosen.patches())
    with reporter.phase("write"):
        save_folder(loaded.model, loaded.tokenizer, folder)
    names = [str(loaded.tokenizer.convert_ids_to_tokens(i)) for i in loaded.unlearn_ids]
    record = {
        "format": 1,
        "run": public_name(chosen.erasure),
        "key": chosen.erasure.key,
        "steps": list(chosen.steps),
        "dropped": list(chosen.dropped),
        "unlearning_tokens": dict(zip(names, loaded.unlearn_ids, strict=True)),
        FORGOTTEN: _forgotten(loaded, chosen),
        "base": base,
    }
    return write_leaving(folder / RECORD, "record", record)


def _check(loaded: LoadedModel, chosen: Chosen) -> None:
    from unierase_cli.editing.weights import AppliedPatch

    wanted = {name: value for record in chosen.records() for name, value in record.base_hashes.items()}
    AppliedPatch(loaded).check(wanted)


def _forgotten(loaded: LoadedModel, chosen: Chosen) -> list[str]:
    """Hashes of what the chosen steps forget, and of what the unedited model had forgotten before them."""
    source = Path(loaded.source)
    before = forgotten_in(source) if source.is_dir() else ()
    now = [name for record in chosen.records() for name in record.info.get(FORGOTTEN, ())]
    return list(dict.fromkeys([*before, *now]))


def _describe_base(loaded: LoadedModel, reporter: Reporter) -> dict[str, Any]:
    from unierase_cli.models.files import read_config, resolve

    # Loading with a type of our own hides the checkpoint's; a hub model's is not looked up again.
    stored = getattr(read_config(resolve(loaded.source), None), "dtype", None) if Path(loaded.source).is_dir() else None
    with reporter.phase("hash"):
        tensors = hash_parameters(loaded)
    return {
        "source": loaded.source,
        "fingerprint": loaded.fingerprint,
        "stored": None if stored is None else str(stored).removeprefix("torch."),
        "tensors": tensors,
    }
