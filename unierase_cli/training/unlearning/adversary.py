"""An adversarial LoRA: while the forget loss is taken, a frozen adapter makes the facts easier to recall.

The loss then has to change what the adapter leans on too, which is what relearning would use (RepSelect, arXiv 2606.17168; spec
depth 1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.loop import Objective
from unierase_cli.training.optimisation import Masters
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.views import View


def strengthen(loaded: LoadedModel, adapter: Adapter, batches: Iterable[RowBatch], lr: float) -> None:
    """One plain step of the adapter down the mean cross-entropy of each batch. Raises UserError if that is not finite."""
    for batch in batches:
        loss = View(loaded, batch).nll.mean()
        if not torch.isfinite(loss):
            raise UserError(f"the loss of the adversarial adapters became {loss.item()}", f"lower their learning rate of {lr:g}")
        for parameter, gradient in zip(adapter.parameters, torch.autograd.grad(loss, adapter.parameters), strict=True):
            parameter.data.sub_(gradient, alpha=lr)


@contextmanager
def adversary(
    loaded: LoadedModel, masters: Masters, batches: Sequence[RowBatch], *, rank: int, lr: float, passes: int, seed: int
) -> Iterator[Callable[[Objective], Objective]]:
    """Yields a wrapper of objectives that are to be taken with the adapter on; everything else sees the model without it.

    The adapter is trained here, at the weights before the first step, so that a resumed training gets the same one.
    """
    adapter = Adapter(loaded, AdapterConfig("lora", r=rank, alpha=rank, dropout=0.0), seed)
    try:
        for _ in range(passes):
            strengthen(loaded, adapter, batches, lr)
        with adapter.off():
            for weight in masters.weights:
                weight.requires_grad_(True)
            yield lambda inner: _Strengthened(inner, adapter)
    finally:
        adapter.remove()
        for weight in masters.weights:
            weight.requires_grad_(True)


class _Strengthened:
    """``inner`` with the adapter on."""

    def __init__(self, inner: Objective, adapter: Adapter) -> None:
        self.inner, self.adapter = inner, adapter
        self.state = inner.state

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        with self.adapter.frozen():
            yield from self.inner.micro_losses(step)

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return self.inner.after_step(step, parts)

    def shrink(self) -> bool:
        return self.inner.shrink()
