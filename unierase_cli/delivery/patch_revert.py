"""An edited model folder back to the unedited model, checked tensor by tensor against the hashes that were recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.edited_folder import (
    BASE,
    LOST,
    RECORD,
    ROWS,
    Base,
    hash_parameters,
    load_folder,
    read_folder_record,
)
from unierase_cli.delivery.patches import Chosen
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.new_folder import check_free, new_folder

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from unierase_cli.models.load import LoadedModel

TOKENIZER = "tokenizer_config.json"


def revert(
    folder: Path,
    erasure: Artefact,
    destination: Path,
    reporter: Reporter,
    *,
    base: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the model that ``folder`` was made from by apply or export.

    Without ``base`` the changes are subtracted; with it, the changed tensors are taken from the original model. Either way
    nothing is written unless every tensor has the recorded hash. Raises UserError when that fails, or the folder is not from
    this run.
    """
    check_free(destination)
    record = read_folder_record(folder)
    if record is None:
        raise UserError(
            f"{folder} has no {RECORD}: nothing says which steps are in it and what it was before",
            "take the original model; folders by `unierase patch apply` and `unierase export` have the record",
        )
    if record.key != erasure.key:
        raise UserError(f"{folder} was edited with {record.run}, not with {erasure.name}", f"name {record.run}")
    if record.unlearning_tokens and not (folder / BASE / TOKENIZER).exists():
        raise UserError(
            f"{folder / BASE} is missing, which has the tokenizer and the token rows of before", "take the original model"
        )
    chosen = Chosen(erasure, tuple(record.steps), tuple(record.dropped))
    taken = None if base is None else _from_base(chosen, base, reporter, device)
    loaded = load_folder(chosen, str(folder), reporter, device)
    with reporter.phase("revert"):
        tokenizer = _undo_vocabulary(loaded, folder, record.base.rows)
        how = _subtract(loaded, chosen, record.base, folder) if taken is None else _put(loaded, taken)
    with reporter.phase("check"):
        _check(hash_parameters(loaded), record.base.tensors, folder)
    kind = _narrow(loaded, record.base.stored)
    from unierase_cli.models.files import save_folder

    with reporter.phase("write"), new_folder(destination) as partial:
        save_folder(loaded.model, tokenizer or loaded.tokenizer, partial)
    checked = len(record.base.tensors)
    reporter.note(
        f"{destination}: {how}; all {checked} tensors have the hashes of the unedited model; written in {kind}"
    )
    return {
        "run": erasure.name,
        "destination": str(destination),
        "steps": record.steps,
        "how": "subtracted" if base is None else "base",
        "tensors_checked": checked,
        "bit_exact": True,
        "weights": kind,
    }


def _from_base(chosen: Chosen, base: str, reporter: Reporter, device: str) -> dict[str, Tensor]:
    """Copies of the tensors that the patches change, as the original model has them; refused if it is another model."""
    from unierase_cli.editing.weights import AppliedPatch

    original = load_folder(chosen, base, reporter, device)
    wanted = {name: value for record in chosen.records() for name, value in record.base_hashes.items()}
    AppliedPatch(original).check(wanted)
    parameters = dict(original.model.named_parameters())
    # Closed-form patches name modules, the others parameters.
    names = [name if name in parameters else f"{name}.weight" for name in wanted]
    return {name: parameters[name].detach().to("cpu", copy=True) for name in names}


def _subtract(loaded: LoadedModel, chosen: Chosen, base: Base, folder: Path) -> str:
    import torch

    from unierase_cli.editing.undo import changes_by_parameter, subtracted
    from unierase_cli.editing.weights import hash_tensor
    from unierase_cli.store.tensors import load_tensors

    hint = "give the original model too: --base FOLDER"
    lost = base.lost
    if not lost:
        raise UserError(f"{chosen.erasure.name} replaced whole tensors: there is nothing to subtract", hint)
    for name, entry in lost.items():
        if not entry.written:
            raise UserError(
                f"{name} does not come back by subtracting: rounding to {str(loaded.model.dtype).removeprefix('torch.')} after "
                f"the edit took bits of {100 * entry.share:.2g} % of its entries",
                hint,
            )
    if not (folder / BASE / LOST).exists():
        raise UserError(f"{folder / BASE / LOST} is missing: what subtracting does not give back is in it", hint)
    kept = load_tensors(folder / BASE / LOST)
    parameters = dict(loaded.model.named_parameters())
    changes = changes_by_parameter(loaded, chosen.patches())
    for name, factors in changes.items():
        if name not in lost or name not in base.tensors or not {f"{name}.at", f"{name}.values"} <= kept.keys():
            raise UserError(f"{folder} does not say what {name} was before", hint)
        kind = getattr(torch, lost[name].type, None)
        if not isinstance(kind, torch.dtype):
            raise UserError(f"{folder / RECORD} says that {name} was of type {lost[name].type!r}, which is none", hint)
        found = subtracted(parameters[name], factors, kind, kept[f"{name}.at"], kept[f"{name}.values"])
        if hash_tensor(found) != base.tensors[name]:
            raise UserError(
                f"{name} is not what the edit left: subtracting gives other bits than the recorded ones", hint
            )
        with torch.no_grad():
            parameters[name].copy_(found)
    return f"the changes of {len(changes)} tensors are subtracted"


def _put(loaded: LoadedModel, taken: Mapping[str, Tensor]) -> str:
    import torch

    parameters = dict(loaded.model.named_parameters())
    with torch.no_grad():
        for name, tensor in taken.items():
            parameters[name].copy_(tensor)
    return f"{len(taken)} tensors are the original model's"


def _undo_vocabulary(loaded: LoadedModel, folder: Path, rows: int) -> PreTrainedTokenizerBase | None:
    """Rows as before; returns the tokenizer of before, None if no token was added."""
    from unierase_cli.models.files import read_tokenizer
    from unierase_cli.models.vocabulary import put_back_rows
    from unierase_cli.store.tensors import load_tensors

    before = folder / BASE
    if not (before / TOKENIZER).exists():
        return None
    kept = load_tensors(before / ROWS) if (before / ROWS).exists() else {}
    ids = kept["ids"].tolist() if kept else []
    put_back_rows(loaded, rows, ids, kept.get("rows_in"), kept.get("rows_out"), kept.get("bias"))
    return read_tokenizer(before, None)


def _check(found: Mapping[str, str], wanted: Mapping[str, str], folder: Path) -> None:
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        name = differing[0]
        here = (found.get(name) or "nothing").partition(":")[2][:12]
        raise UserError(
            f"{folder} was changed since it was made: {len(differing)} tensors are not the unedited model's, e.g. {name} "
            f"(sha256 {here}, recorded {wanted[name].partition(':')[2][:12]})",
            "take the original model",
        )


def _narrow(loaded: LoadedModel, stored: str | None) -> str:
    """Write in the type that the original checkpoint was kept in, if that loses no bit; returns the type's name."""
    import torch

    own = loaded.model.dtype
    dtype = getattr(torch, stored or "", None)
    if isinstance(dtype, torch.dtype) and dtype != own:
        values = [p.detach() for p in loaded.model.parameters()]
        if all(torch.equal(value.to(dtype).to(value.dtype), value) for value in values):
            loaded.model.to(dtype)  # type: ignore[arg-type]  # as in models/load
    return str(loaded.model.dtype).removeprefix("torch.")
