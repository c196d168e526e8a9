"""Relearning in the loop: a part of a loss is taken at weights that have relearned some other facts for a few steps.

Its gradient there, applied to the weights before (first-order, as in MAML), makes the facts hard to bring back and not only
hard to ask for.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unierase_cli.training.loop import Objective
from unierase_cli.training.optimisation import Masters


class Relearned:
    """``share`` of the loss ``inner`` at relearned weights, the rest at the current ones.

    The weights relearn by ``steps`` steps of size ``rate`` against the sign of the gradient of ``attack``, whose own steps are
    counted on through the training. They are restored before the next loss.
    """

    def __init__(
        self, inner: Objective, attack: Objective, masters: Masters, *, steps: int, rate: float, share: float = 0.5
    ) -> None:
        self.inner, self.attack, self.masters = inner, attack, masters
        self.steps, self.rate, self.share = steps, rate, share
        self.state: dict[str, float] = {}

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        yield from _scaled(self.inner, step, 1 - self.share)
        kept = [weight.detach().clone() for weight in self.masters.weights]
        try:
            self._relearn(step)
            yield from _scaled(self.inner, step, self.share)
        finally:
            with torch.no_grad():
                for weight, value in zip(self.masters.weights, kept, strict=True):
                    weight.copy_(value)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return self.inner.after_step(step, parts)

    def shrink(self) -> bool:
        return self.inner.shrink()

    def _relearn(self, step: int) -> None:
        # In float32: a step is smaller than the resolution of bfloat16 weights.
        moved = [tensor.detach().clone() for tensor in self.masters.tensors]
        for turn in range(self.steps):
            sums: list[Tensor] | None = None
            for loss, _ in self.attack.micro_losses(step * self.steps + turn):
                found = torch.autograd.grad(loss, self.masters.weights, allow_unused=True)
                given = [torch.zeros_like(m) if g is None else g.to(m.dtype) for g, m in zip(found, moved, strict=True)]
                sums = given if sums is None else [a + b for a, b in zip(sums, given, strict=True)]
            with torch.no_grad():
                for weight, tensor, gradient in zip(self.masters.weights, moved, sums or [], strict=True):
                    tensor.sub_(gradient.sign(), alpha=self.rate)
                    weight.copy_(tensor)


def _scaled(inner: Objective, step: int, share: float) -> Iterator[tuple[Tensor, dict[str, float]]]:
    for loss, parts in inner.micro_losses(step):
        yield loss * share, {name: value * share for name, value in parts.items()}
