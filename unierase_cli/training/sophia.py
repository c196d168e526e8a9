"""Sophia-G as used by SOUL: steps of at most the learning rate, preconditioned by a running average of the squared gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Sophia(torch.optim.Optimizer):
    """p -= lr * decay * p; m = b1 m + (1 - b1) g; h = b2 h + (1 - b2) g^2; p -= lr * sign(m) * min(1, |m| / (rho * batch * h)).

    The curvature h is updated at every step from the training gradient, as in SOUL's code (arXiv 2404.18239; spec/reveal.md,
    SOUL). ``batch``: sequences per step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        rho: float = 0.04,
        weight_decay: float = 0.1,
        batch: int = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "rho": rho, "weight_decay": weight_decay, "batch": batch})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"], state["curvature"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        momentum, curvature = state["momentum"], state["curvature"]
        first, second = group["betas"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        momentum.mul_(first).add_(gradient, alpha=1 - first)
        curvature.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        ratio = (momentum.abs() / (group["rho"] * group["batch"] * curvature + 1e-15)).clamp_(max=1.0)
        parameter.addcmul_(momentum.sign(), ratio, value=-group["lr"])
