"""A model folder with a run's changes in it, and the note beside it by which they can be taken back.

The folder is a plain Hugging Face folder. ``unierase.json`` in it says which run and steps were put in and has the hash of every
tensor of the model before; ``unierase-base/`` has what cannot be computed back: the tokenizer, the rows that the unlearning tokens
took the place of, and the entries of edited matrices that subtracting the change does not give (see editing/undo).
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
from unierase_cli.store.json_text import Finite, decoded, read_json
from unierase_cli.store.new_folder import check_free, new_folder
from unierase_cli.store.unlearned import FORGOTTEN, RECORD, forgotten_in

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.models.load import LoadedModel

BASE = "unierase-base"
ROWS, LOST = "rows.safetensors", "lost.safetensors"


class Loss(msgspec.Struct):
    """Of one edited matrix: its base's type, and the share of entries that subtracting does not give back."""

    type: str
    share: Finite
    written: bool


class Base(msgspec.Struct):
    """The model before: a hash for every tensor, how many rows its vocabulary had, the type that it was stored in."""

    tensors: dict[str, str]
    rows: int
    lost: dict[str, Loss]
    stored: str | None = None


class FolderRecord(msgspec.Struct):
    """What ``unierase.json`` says of the run, and of the model before."""

    run: str
    key: str
    steps: list[int]
    dropped: list[int]
    base: Base
    unlearning_tokens: dict[str, int] = {}


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
    reporter.note(_way_back(record["base"]["lost"]))
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
        raise UserError(f"{path} is damaged ({error})", "give the original model with --base FOLDER") from error


def hash_parameters(loaded: LoadedModel) -> dict[str, str]:
    """Name -> hash of every parameter; a tied one counts once."""
    from unierase_cli.editing.weights import hash_tensor

    return {name: hash_tensor(parameter) for name, parameter in loaded.model.named_parameters()}


def _fill(folder: Path, loaded: LoadedModel, chosen: Chosen, reporter: Reporter) -> dict[str, Any]:
    """Edit the model and write it, what its base was, and the record, which is returned."""
    from unierase_cli.editing.apply import apply_patches
    from unierase_cli.models.files import save_folder

    base = _describe_base(loaded, reporter)
    ids = {i for record in chosen.records() if record.tokens for i in record.tokens.ids}
    if ids:
        _keep_vocabulary(loaded, sorted(ids), folder / BASE)
    with reporter.phase("apply"):
        applied = apply_patches(loaded, chosen.patches())
    with reporter.phase("check"):
        base["lost"] = _keep_lost(loaded, chosen, applied, folder / BASE)
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
        "rows": loaded.architecture.embedding.weight.shape[0],
        "tensors": tensors,
    }


def _keep_vocabulary(loaded: LoadedModel, ids: list[int], folder: Path) -> None:
    """The tokenizer of before, and the rows that the unlearning tokens are about to take."""
    from unierase_cli.models.vocabulary import get_bias, get_rows
    from unierase_cli.store.tensors import save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    loaded.tokenizer.save_pretrained(folder)
    taken = [i for i in ids if i < loaded.architecture.embedding.weight.shape[0]]
    if not taken:
        return
    import torch

    rows_in, rows_out = get_rows(loaded, taken)
    tensors: dict[str, Tensor] = {"ids": torch.tensor(taken), "rows_in": rows_in}
    if rows_out is not None:
        tensors["rows_out"] = rows_out
    bias = get_bias(loaded, taken)
    if bias is not None:
        tensors["bias"] = bias
    save_tensors(folder / ROWS, tensors)


def _keep_lost(loaded: LoadedModel, chosen: Chosen, applied: AppliedPatch, folder: Path) -> dict[str, Any]:
    """Per edited matrix the type of its base and the share of entries that subtracting does not give back; these entries are
    written where they are few. Empty where a step replaced whole tensors.
    """
    from unierase_cli.editing.undo import changes_by_parameter, narrowest, remainder
    from unierase_cli.store.tensors import save_tensors

    if any(record.dense for record in chosen.records()):
        return {}
    found: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    parameters = dict(loaded.model.named_parameters())
    for name, changes in changes_by_parameter(loaded, chosen.patches()).items():
        left = remainder(parameters[name], changes, applied.bases[name])
        found[name] = {"type": narrowest(applied.bases[name]), "share": left.share, "written": left.at is not None}
        if left.at is not None and left.values is not None:
            tensors |= {f"{name}.at": left.at, f"{name}.values": left.values}
    if tensors:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / LOST, tensors)
    return found


def _way_back(lost: dict[str, dict[str, Any]]) -> str:
    if not lost:
        return "whole tensors were replaced: `unierase patch revert` needs the original model (--base FOLDER)"
    worst = max(entry["share"] for entry in lost.values())
    if all(entry["written"] for entry in lost.values()):
        return f"`unierase patch revert` takes it back without the original ({100 * worst:.2g} % of the entries are kept beside it)"
    return (
        f"rounding took bits of up to {100 * worst:.2g} % of the entries of an edited matrix: `unierase patch revert` needs the "
        "original model (--base FOLDER)"
    )
