"""Patches of every kind for a tiny model, made without a method, and its parameters bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor

from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows


def low_rank(loaded: LoadedModel, layer: int, seed: int, scale: float = 0.05) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    h, d = loaded.architecture.hidden_size, loaded.architecture.inner_size(layer)
    return LowRank(scale * torch.randn(h, 3, generator=generator), torch.randn(d, 3, generator=generator))


def rows_for(loaded: LoadedModel, names: list[str]) -> TokenRows:
    generator = torch.Generator().manual_seed(5)
    first = len(loaded.tokenizer)
    shape = (len(names), loaded.architecture.hidden_size)
    out = None if loaded.architecture.tied else torch.randn(shape, generator=generator)
    return TokenRows(names, [first + i for i in range(len(names))], torch.randn(shape, generator=generator), out)


def make_patch(loaded: LoadedModel, seed: int = 1, tokens: TokenRows | None = None) -> Patch:
    hashes = AppliedPatch(loaded).hashes([1, 2])
    return Patch(tokens, {n: low_rank(loaded, n, seed + n) for n in (1, 2)}, hashes, {"step": 0})


def bits(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def parameters(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in loaded.model.named_parameters()}


def dense_patch(loaded: LoadedModel, seed: int = 0, names: list[str] | None = None) -> Patch:
    """What a full fine-tune leaves behind: every parameter (or the named ones) moved a little."""
    generator = torch.Generator().manual_seed(seed)
    chosen = {name: p for name, p in parameters(loaded).items() if names is None or name in names}
    dense = {n: (p + 0.1 * torch.randn(p.shape, generator=generator)).to(p.dtype) for n, p in chosen.items()}
    return Patch(None, {}, AppliedPatch(loaded).hashes_of(dense), {}, dense=dense)


def named_patch(loaded: LoadedModel, seed: int = 0, names: list[str] | None = None) -> Patch:
    """What adapters leave behind: a rank 2 change of every matrix of the blocks (or of the named ones)."""
    generator = torch.Generator().manual_seed(seed)
    named = {}
    for name, p in parameters(loaded).items():
        if p.dim() == 2 and (name in names if names is not None else loaded.architecture.blocks_name in name):
            left, right = (torch.randn(size, 2, generator=generator) for size in p.shape)
            named[name] = LowRank(0.05 * left, right)
    return Patch(None, {}, AppliedPatch(loaded).hashes_of(named), {}, named=named)
