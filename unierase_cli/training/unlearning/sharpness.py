"""SAM: a loss's gradient is taken at weights moved up the loss (arXiv 2502.05374; spec depth 4.1).

The training then looks for a flat place of the forget loss, which relearning leaves slowly.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unierase_cli.training.loop import Objective
from unierase_cli.training.optimisation import Masters
from unierase_cli.training.unlearning.relearned import gradients, moved_weights


class Sharpened:
    """``inner`` at the weights plus ``radius`` along its gradient, scaled to length 1 over all trained weights together."""

    def __init__(self, inner: Objective, masters: Masters, radius: float) -> None:
        self.inner, self.masters, self.radius = inner, masters, radius
        self.state = inner.state

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        with moved_weights(self.masters) as move:
            found = gradients(self.inner, step, self.masters)
            norm = float(torch.stack([gradient.norm() for gradient in found]).norm())
            if norm > 0:
                move([gradient * (self.radius / norm) for gradient in found])
            yield from self.inner.micro_losses(step)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return self.inner.after_step(step, parts)

    def shrink(self) -> bool:
        return self.inner.shrink()
