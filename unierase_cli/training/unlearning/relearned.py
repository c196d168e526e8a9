"""Relearning in the loop: a part of a loss is taken at weights that have relearned some other facts for a few steps.

Its gradient there, applied to the weights before (first-order, as in MAML), makes the facts hard to bring back and not only
hard to ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
        with moved_weights(self.masters) as move:
            for turn in range(self.steps):
                found = gradients(self.attack, step * self.steps + turn, self.masters)
                move([gradient.sign() * -self.rate for gradient in found])
            yield from _scaled(self.inner, step, self.share)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return self.inner.after_step(step, parts)

    def shrink(self) -> bool:
        return self.inner.shrink()


@contextmanager
def moved_weights(masters: Masters) -> Iterator[Callable[[Sequence[Tensor]], None]]:
    """Yields a function that adds to the weights; they are restored at the end.

    Sums are kept in float32: a small change is less than the resolution of bfloat16 weights.
    """
    kept = [weight.detach().clone() for weight in masters.weights]
    sums = [tensor.detach().float().clone() for tensor in masters.tensors]

    def move(changes: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, total, change in zip(masters.weights, sums, changes, strict=True):
                total.add_(change)
                weight.copy_(total)

    try:
        yield move
    finally:
        with torch.no_grad():
            for weight, value in zip(masters.weights, kept, strict=True):
                weight.copy_(value)


def gradients(objective: Objective, step: int, masters: Masters) -> list[Tensor]:
    """The gradients of an objective's step, float32, without touching those that are being accumulated."""
    sums = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in masters.tensors]
    for loss, _ in objective.micro_losses(step):
        for total, gradient in zip(sums, torch.autograd.grad(loss, masters.weights, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient.float()
    return sums


def _scaled(inner: Objective, step: int, share: float) -> Iterator[tuple[Tensor, dict[str, float]]]:
    for loss, parts in inner.micro_losses(step):
        yield loss * share, {name: value * share for name, value in parts.items()}
