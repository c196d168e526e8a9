"""Optimisers, learning-rate schedules, and float32 master weights for models that compute in another dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import UserError
from unierase_cli.training.sharding import is_shared_out
from unierase_cli.training.sophia import Sophia


@dataclass(frozen=True)
class Optimisation:
    """Optimiser settings. ``warmup``: share of the steps; ``own``: optimiser-specific settings; ``floor``: final share of the
    learning rate under the cosine schedule.
    """

    lr: float
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    optimizer: str = "adamw"
    own: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1
    floor: float = 0.05

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step ``step`` (from 0) of ``total``."""
        warm = round(self.warmup * total)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        along = (step - warm) / max(1, total - warm)
        if self.schedule == "linear":
            return self.lr * (1 - along)
        return self.lr * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * along)))


def optimisation(config: UnlearnConfig) -> Optimisation:
    """The optimiser's settings of a gradient method."""
    betas = (config.betas[0], config.betas[1])
    return Optimisation(
        config.lr, config.schedule, config.warmup, config.weight_decay, betas, config.clip, config.optimizer,
        config.all_optimizer_settings(), config.batch_size,
    )  # fmt: skip


def make_optimizer(parameters: Sequence[Tensor], settings: Optimisation) -> torch.optim.Optimizer:
    """AdamW, paged 8-bit AdamW or Sophia; weight decay applies to matrices, not to vectors (norms, biases).

    Raises UserError if the 8-bit optimiser is not available.
    """
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sophia":
        decay = settings.weight_decay
        return Sophia(groups, settings.lr, settings.betas, weight_decay=decay, batch=settings.batch, **settings.own)
    if settings.optimizer == "paged_adamw_8bit":
        return _paged(groups, settings, parameters)
    if any(is_shared_out(p) for p in parameters):  # the fused and foreach kernels need parameters of one kind
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, foreach=False)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)


def check_paged(device: torch.device) -> None:
    """Raise UserError if the 8-bit optimiser is not available."""
    if device.type != "cuda":
        raise UserError(
            f"unlearn.optimizer=paged_adamw_8bit needs an NVIDIA GPU, the model is on {device}",
            "choose unlearn.optimizer=adamw",
        )
    try:
        import bitsandbytes.optim  # noqa: F401
    except ImportError:
        raise UserError("unlearn.optimizer=paged_adamw_8bit needs bitsandbytes", "pip install bitsandbytes") from None


def _paged(groups: list[dict[str, Any]], settings: Optimisation, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    check_paged(parameters[0].device)
    from bitsandbytes.optim import PagedAdamW8bit

    return PagedAdamW8bit(groups, lr=settings.lr, betas=settings.betas)


class Masters:
    """Weights in the compute dtype, with float32 master copies for updates (or the same tensors if no copies are needed)."""

    def __init__(self, weights: Sequence[torch.nn.Parameter], dtype: torch.dtype, copies: bool = True) -> None:
        """Cast the weights to ``dtype``. Buffers keep their dtype, because rounded rotary frequencies would change the model.

        Sharded weights stay float32 and are their own masters; they are cast when gathered.
        """
        self.weights = list(weights)
        self.tensors: list[Tensor] = []
        for weight in self.weights:
            own = is_shared_out(weight) or not copies or dtype is torch.float32
            self.tensors.append(weight if own else weight.detach().float().clone())
            if not is_shared_out(weight):
                weight.data = weight.data.to(dtype)

    def take_gradients(self) -> None:
        """Move the weights' gradients to the tensors that the optimiser updates."""
        for weight, master in self._copied():
            master.grad = None if weight.grad is None else weight.grad.to(master.dtype)
            weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the updated values into the weights."""
        for weight, master in self._copied():
            weight.copy_(master)

    def finish(self, dtype: torch.dtype) -> None:
        """Cast the weights to ``dtype`` with the updated values."""
        for weight in self.weights:
            weight.grad = None
            if not is_shared_out(weight):
                weight.data = weight.data.to(dtype)
        self.publish()

    def _copied(self) -> list[tuple[torch.nn.Parameter, Tensor]]:
        return [(w, m) for w, m in zip(self.weights, self.tensors, strict=True) if w is not m]
