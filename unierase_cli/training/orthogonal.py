"""Keeps a new adapter orthogonal to an earlier one (O-LoRA, Wang et al. 2023, arXiv 2310.14152)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from unierase_cli.training.loop import Objective


class Orthogonal:
    """An objective plus ``weight`` times the sum over all layers of |A_fixed A_new^T|, the absolute products of their rows.

    ``fixed``, ``new``: parameter name -> A [r, in]. The gradients of ``new`` are the adapter's.
    """

    def __init__(self, inner: Objective, fixed: Mapping[str, Tensor], new: Mapping[str, Tensor], weight: float) -> None:
        self.inner, self.fixed, self.new, self.weight = inner, fixed, new, weight
        self.state = inner.state

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        yield from self.inner.micro_losses(step)
        if self.weight and self.fixed:
            found = overlap(self.fixed, self.new)
            yield self.weight * found, {"overlap": float(found.detach())}

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return self.inner.after_step(step, parts)

    def shrink(self) -> bool:
        return self.inner.shrink()


def overlap(fixed: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> Tensor:
    """Sum over the layers of the absolute values of A_fixed A_new^T."""
    return torch.stack([(fixed[name].to(value) @ value.T).abs().sum() for name, value in new.items()]).sum()
