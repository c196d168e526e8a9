"""Runs the MLP of a block only where its output is read; the block's attention, and so its keys and values, stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unierase_cli.models.architecture import Architecture


@contextmanager
def mlp_at(architecture: Architecture, layer: int, places: Tensor | None) -> Iterator[None]:
    """Within, the block's MLP runs at one position of each row, ``places`` [B], and puts out 0 elsewhere.

    With None, where no module is the MLP (OPT), or where it is given more than its input (BLOOM's adds the residual), it runs
    everywhere.
    """
    mlp = None if places is None else architecture.mlp(layer)
    if mlp is None or places is None:
        yield
        return
    wanted = places
    sizes: list[torch.Size | None] = []

    def at(device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.arange(len(wanted), device=device), wanted.to(device)

    def cut(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        alone = len(given) == 1 and not named
        sizes.append(given[0].shape if alone else None)
        return ((given[0][at(given[0].device)][:, None],), named) if alone else None

    def whole(_module: nn.Module, _given: Any, output: Tensor) -> Tensor | None:
        size = sizes.pop()
        if size is None:
            return None
        return output.new_zeros(*size[:2], output.shape[-1]).index_put(at(output.device), output[:, 0])

    handles = [mlp.register_forward_pre_hook(cut, with_kwargs=True), mlp.register_forward_hook(whole)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
