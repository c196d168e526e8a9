"""Changes a model's weights for a while; they are restored bit for bit, also after errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from unierase_cli.models.load import LoadedModel


def linear_weights(loaded: LoadedModel, *, head: bool = False) -> dict[str, Tensor]:
    """Name -> weight of every linear layer of the blocks, with ``head`` of the output head too, as they are stored."""
    architecture = loaded.architecture
    modules = {f"{architecture.blocks_name}.{name}": module for name, module in architecture.blocks.named_modules()}
    found = {f"{name}.weight": module.weight for name, module in modules.items() if isinstance(module, (nn.Linear, Conv1D))}
    return found | ({"head.weight": architecture.head.weight} if head else {})


def matrices(loaded: LoadedModel) -> Iterator[tuple[str, Tensor]]:
    """Name and a float32 copy [out, in] of every linear weight of the blocks."""
    turned = _turned(loaded)
    for name, weight in linear_weights(loaded).items():
        own = weight.detach().to(torch.float32, copy=True)
        yield name, own.T.contiguous() if name in turned else own


@contextmanager
def changed(loaded: LoadedModel, change: Callable[[str, Tensor], Tensor], *, head: bool = False) -> Iterator[None]:
    """Inside, every linear weight is what ``change(name, weight)`` makes of it: float32 [out, in] in and out, rounded to the
    model's own type. The embedding stays as it is, also where the head shares its weight.
    """
    with _own_head(loaded) if head else nullcontext():
        yield from _changed(loaded, change, head)


@contextmanager
def _own_head(loaded: LoadedModel) -> Iterator[None]:
    """Inside, a head that shares its weight with the embedding has a copy of its own."""
    head, shared = loaded.architecture.head, loaded.architecture.head.weight
    if shared is not loaded.architecture.embedding.weight:
        yield
        return
    head.weight = nn.Parameter(shared.detach().clone(), requires_grad=False)
    try:
        yield
    finally:
        head.weight = shared


def _changed(loaded: LoadedModel, change: Callable[[str, Tensor], Tensor], head: bool) -> Iterator[None]:
    """What ``changed`` does, with a head that shares no weight."""
    turned = _turned(loaded)
    kept: dict[str, Tensor] = {}
    weights = linear_weights(loaded, head=head)
    try:
        for name, weight in weights.items():
            kept[name] = weight.detach().to("cpu", copy=True)
            own = weight.detach().to(torch.float32, copy=True)
            # A Conv1D keeps its weight as [in, out].
            new = change(name, own.T.contiguous()).T if name in turned else change(name, own)
            weight.data.copy_(new)
        yield
    finally:
        for name, value in kept.items():
            weights[name].data.copy_(value)


def _turned(loaded: LoadedModel) -> set[str]:
    """The weights that are stored as [in, out]."""
    return {f"{name}.weight" for name, module in loaded.model.named_modules() if isinstance(module, Conv1D)}
