"""Shards a model's blocks over processes (PyTorch's FSDP2): each holds a shard of weights, gradients and optimiser states.

Embedding and head stay whole in every process; the blocks hold most of a large model's weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes


class ShardedBlocks:
    """A model's blocks while they are sharded; ``put_back`` restores the original blocks."""

    def __init__(self, loaded: LoadedModel, dtype: torch.dtype) -> None:
        """Shards are float32 and compute in ``dtype``."""
        processes.join()
        self._blocks, self._device = loaded.architecture.blocks, loaded.device
        # On the CPU, because the devices may lack the memory for whole blocks.
        self._plain: list[nn.Module] = [copy.deepcopy(block).cpu() for block in self._blocks]
        mesh = init_device_mesh(loaded.device.type, (processes.world(),))
        policy = MixedPrecisionPolicy(param_dtype=None if dtype is torch.float32 else dtype)
        for block in self._blocks:
            for parameter in block.parameters():
                parameter.data = parameter.data.float()
            fully_shard(block, mesh=mesh, mp_policy=policy)

    def put_back(self) -> None:
        for place, block in enumerate(self._plain):
            self._blocks[place] = block.to(self._device)


def is_shared_out(tensor: Tensor) -> bool:
    """Whether each process holds only a shard of the tensor."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The tensor gathered from all shards; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, value: Tensor) -> Tensor:
    """The whole tensor ``value`` with the layout of ``tensor``: on its device, and sharded if it is."""
    value = value.to(tensor.device)
    if isinstance(tensor, DTensor) and value.shape == tensor.shape:
        return distribute_tensor(value, tensor.device_mesh, tensor.placements)
    return value


def clip(parameters: Sequence[Tensor], largest: float) -> float:
    """Scale the gradients down to a norm of at most ``largest`` (0: no clipping) over all shards; returns the norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [[g for g in gradients if is_shared_out(g)], [g for g in gradients if not is_shared_out(g)]]
    norms = [whole(torch.nn.utils.get_total_norm(part)) for part in parts if part]
    norm = float(torch.stack([n.float().cpu() for n in norms]).norm()) if norms else 0.0
    for gradient in gradients if largest and norm > largest else ():
        gradient.mul_(largest / (norm + 1e-6))
    return norm
