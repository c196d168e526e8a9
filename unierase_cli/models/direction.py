"""Removing one direction from everything that a model's blocks put out (after Arditi et al. 2024; spec: audit, section 6).

Where forgetting means that the model turns towards a refusal, taking that direction away brings the answers back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unierase_cli.models.architecture import Architecture


def difference_of_means(forget: Tensor, retain: Tensor) -> Tensor:
    """Unit vector [h] from the mean of retain states [n, h] to that of forget states [m, h].

    Raises ValueError where both means are the same.
    """
    difference = forget.double().mean(dim=0) - retain.double().mean(dim=0)
    length = difference.norm()
    if length == 0:
        raise ValueError("forget and retain states have the same mean: there is no direction between them")
    return (difference / length).float()


@contextmanager
def without_direction(architecture: Architecture, direction: Tensor) -> Iterator[None]:
    """While inside, every block's output x loses ``v v^T x``, with ``direction`` the unit vector v [h]; no weight changes."""

    def remove(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        hidden, *rest = output if isinstance(output, tuple) else (output,)
        unit = direction.to(hidden.device, torch.float32)
        kept = hidden - ((hidden.float() @ unit)[..., None] * unit).to(hidden.dtype)
        return (kept, *rest) if isinstance(output, tuple) else kept

    handles = [block.register_forward_hook(remove) for block in architecture.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
