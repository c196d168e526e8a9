"""Several processes that train one model (``accelerate launch -m unierase_cli ...``, ``torchrun``): who am I, and sums over all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world() -> int:
    """Number of processes, from the launcher's environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def join(device: torch.device) -> None:
    """Meet the other processes (nccl on GPUs, gloo on CPUs); nothing to do for a single one."""
    if world() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a list: every ``world()``-th from ``rank()`` on."""
    return list(items[rank() :: world()])


def add_up(values: Sequence[float], device: torch.device) -> list[float]:
    """Each value summed over all processes."""
    if world() == 1:
        return list(values)
    total = torch.tensor(list(values), dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
    dist.all_reduce(total)
    return total.tolist()


def add_up_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum every parameter's gradient over all processes, in place; a process without one adds zeros."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def wait() -> None:
    """Go on once every process is here."""
    if world() > 1 and dist.is_initialized():
        dist.barrier()
