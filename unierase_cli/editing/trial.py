"""Tries changes of a model's weights before they become a patch; the model is restored when the context ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

import torch
from torch import Tensor

from unierase_cli.editing.patch import joined
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel

# Parameter name -> its change.
Changes = Mapping[str, LowRank]


class Trial:
    """Context in which ``put`` sets the model to its weights plus the sum of some changes, added in float32.

    The weights are those at the start; of every changed parameter a copy is kept on the CPU.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._base: dict[str, Tensor] = {}

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.put([])

    @torch.no_grad()
    def put(self, changes: Sequence[Changes]) -> None:
        """Set the weights; without changes, to what they were."""
        parameters = dict(self.loaded.model.named_parameters())
        total = together(changes)
        for name in total:
            self._base.setdefault(name, parameters[name].detach().to("cpu", copy=True))
        for name, base in self._base.items():
            value = base.to(parameters[name].device)
            if name in total:
                change = LowRank(total[name].left.to(value.device), total[name].right.to(value.device))
                value = (value.float() + change.dense()).to(value.dtype)
            parameters[name].copy_(value)


def scaled(change: LowRank, factor: float) -> LowRank:
    """The change times a number."""
    return LowRank(factor * change.left, change.right)


def together(changes: Sequence[Changes]) -> dict[str, LowRank]:
    """The sum of several changes, as one pair of factors for each parameter."""
    names = list(dict.fromkeys(name for one in changes for name in one))
    return {name: joined([one[name] for one in changes if name in one]) for name in names}
