"""Converts optimised values and their optimiser state to tensors named ``NAME.PLACE`` (``exp_avg.0``), and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unierase_cli.training.sharding import like, whole


def kept_state(values: Sequence[Tensor], optimizer: torch.optim.Optimizer, called: str) -> Iterator[tuple[str, Any]]:
    """Each value as ``<called>.<place>`` and its state: tensors on the CPU, gathered from all shards, and plain numbers.

    Yields one at a time, so that gathered tensors do not pile up on the devices; every process must iterate over all of them.
    """
    for place, value in enumerate(values):
        for name, held in {called: value, **optimizer.state[value]}.items():
            # bitsandbytes stores its step count as a plain number
            yield f"{name}.{place}", whole(held).detach().cpu() if isinstance(held, Tensor) else held


def restore_state(values: Sequence[Tensor], optimizer: torch.optim.Optimizer, called: str, kept: Mapping[str, Any]) -> None:
    """Restore the output of ``kept_state`` to the devices that this optimiser uses: step counts stay on the CPU unless fused."""
    for place, value in enumerate(values):
        state = {key.rpartition(".")[0]: held for key, held in kept.items() if key.rpartition(".")[2] == str(place)}
        with torch.no_grad():
            value.copy_(like(value, state.pop(called)))
        optimizer.state[value] = {name: _placed(optimizer, value, name, held) for name, held in state.items()}


def _placed(optimizer: torch.optim.Optimizer, value: Tensor, name: str, held: Any) -> Any:
    if not isinstance(held, Tensor) or (name == "step" and not optimizer.defaults.get("fused")):
        return held
    return held.to(value.device) if name == "step" else like(value, held)
