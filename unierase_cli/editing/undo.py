"""Taking changes off a model of which the base is not at hand, as far as that is possible bit for bit.

What is stored is round(base + changes). Subtracting the changes leaves base + what rounding took; rounding that to the type that
the base's values are of gives each entry back unless the rounding error is of the size of the entry's own last bit. A bfloat16
checkpoint that was edited in float32 comes back but for the entries that are tiny beside their change; these few are written down
(``Remainder``). Edited in bfloat16, every entry whose change crosses a power of two is lost, several in a hundred; a checkpoint
that uses all bits of float32 the same: then the original is needed. Whether it worked is told by the base's hash alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from unierase_cli.contracts import UserError
from unierase_cli.editing.low_rank import transposed
from unierase_cli.editing.moments import solving_device
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel

# Types that checkpoints are kept in, narrow ones first: the narrower the base, the fewer entries are lost.
NARROW = (torch.bfloat16, torch.float16, torch.float32)
# Share of a tensor's entries up to which the lost ones are written down; of more, the original is the better record.
MOST = 1 / 64
# How far apart two machines' float32 products left @ right.T may be, as a share of |left| @ |right|.T.
PRODUCT_ERROR = 2.0**-22


@dataclass
class Remainder:
    """What subtracting does not give back of a tensor: flat places ``at`` [n] and the base's ``values`` [n] there.

    ``share`` of all entries; where it is more than ``MOST``, places and values are None.
    """

    share: float
    at: Tensor | None
    values: Tensor | None


def changes_by_parameter(loaded: LoadedModel, patches: Iterable[Patch]) -> dict[str, list[LowRank]]:
    """Parameter name -> its changes in step order, [rows, columns] as the parameter is stored.

    Raises UserError where a step replaced a tensor, so that there is nothing to add up.
    """
    found: dict[str, list[LowRank]] = {}
    for patch in patches:
        if patch.dense:
            raise UserError(
                f"the patch replaces {len(patch.dense)} tensors (e.g. {next(iter(patch.dense))}): it is no low-rank change",
                "it holds the new values, not their difference from the old ones",
            )
        for name, change in patch.named.items():
            found.setdefault(name, []).append(change)
        for layer, change in sorted(patch.factors.items()):
            stored = isinstance(loaded.architecture.projection(layer), Conv1D)
            name = f"{loaded.architecture.projection_name(layer)}.weight"
            found.setdefault(name, []).append(transposed(change) if stored else change)
    return found


def remainder(edited: Tensor, changes: Sequence[LowRank], base: Tensor) -> Remainder:
    """The entries of ``base`` that ``subtracted`` may not give back, on this machine or on another one."""
    total = _difference(edited, changes)
    base = base.to(total.device)
    sizes = (_product(change.left.abs(), change.right.abs(), total.device) for change in changes)
    error = sum(sizes, torch.zeros_like(total)) * PRODUCT_ERROR
    kind = _kind(base)
    sure = ((total - error).to(kind) == base) & ((total + error).to(kind) == base)
    # Zero has two signs, and -0 == 0.
    sure &= base != 0
    lost = (~sure).flatten().nonzero()[:, 0]
    share = lost.numel() / base.numel()
    if share > MOST:
        return Remainder(share, None, None)
    return Remainder(share, lost.to("cpu", torch.int32), base.flatten()[lost].cpu())


def subtracted(edited: Tensor, changes: Sequence[LowRank], kind: torch.dtype, at: Tensor, values: Tensor) -> Tensor:
    """The base, from the edited tensor, its changes, the type ``kind`` that the base's values are of, and the remainder."""
    found = _difference(edited, changes).to(kind).to(edited.dtype).flatten()
    found[at.to(found.device, torch.long)] = values.to(found)
    return found.view_as(edited).to(edited.device)


def _kind(base: Tensor) -> torch.dtype:
    """The narrowest type that holds all values of ``base``."""
    return next((kind for kind in NARROW if torch.equal(base.to(kind).to(base.dtype), base)), base.dtype)


def narrowest(base: Tensor) -> str:
    """Name of the narrowest type that holds all values of ``base``."""
    return str(_kind(base)).removeprefix("torch.")


def _difference(edited: Tensor, changes: Sequence[LowRank]) -> Tensor:
    where = solving_device(edited.device)
    total = edited.detach().to(where).double()
    for change in changes:
        total = total - _product(change.left, change.right, where)
    return total


def _product(left: Tensor, right: Tensor, device: torch.device) -> Tensor:
    """In float32 as the edit was applied, then exactly."""
    return LowRank(left.to(device), right.to(device)).dense().double()
