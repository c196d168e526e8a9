"""KL(before || after) along the true answers: how far the edit moved the model's predictions.

Taken over the unedited model's vocabulary: probability of new tokens counts as lost. The states behind the final norm
and the head are saved before the weights change, so that only one model is in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unierase_cli.models.load import LoadedModel
from unierase_cli.probes.base import Asking, frozen_views, training_row
from unierase_cli.training.unlearning.views import View

VERSION = 2
# The model never learned these: there is nothing to keep.
LEFT_OUT = ("holdout",)


def remember(loaded: LoadedModel, asking: Asking) -> tuple[torch.nn.Module, list[Tensor]]:
    """A copy of the head, and the states [n, h] that predict each example's answer tokens."""
    kept: list[Tensor] = [torch.empty(0)] * count(asking)
    for indices, view in _views(loaded, asking):
        for index, states in zip(indices, _by_row(view, _states(view)), strict=True):
            kept[index] = states
    return copy.deepcopy(loaded.architecture.head), kept


def rows(loaded: LoadedModel, asking: Asking, remembered: Any) -> Iterator[dict[str, Any]]:
    """``{"split", "fact_id", "value"}``: mean KL per answer token, nats. Empty for the unedited model."""
    if remembered is None:
        return
    (head, before), asked = remembered, _asked(asking)
    for indices, view in _views(loaded, asking):
        with torch.no_grad():
            old = _log_probabilities(loaded, torch.cat([before[i] for i in indices]), head)
            new = torch.log_softmax(view.logits, dim=-1)[:, : old.shape[1]]
            values = (old.exp() * (old - new)).sum(-1)
        for index, of_row in zip(indices, _by_row(view, values), strict=True):
            split, fact = asked[index]
            # Rounding may put a KL of 0 slightly below it.
            yield {"split": split, "fact_id": fact.id, "value": max(0.0, float(of_row.mean()))}
        asking.advance(len(indices))


def count(asking: Asking) -> int:
    """Number of rows that ``rows`` yields."""
    return len(_asked(asking))


def _asked(asking: Asking) -> list[tuple[str, Any]]:
    return asking.of(*(split for split in asking.facts if split not in LEFT_OUT))


def _views(loaded: LoadedModel, asking: Asking) -> Iterator[tuple[Any, View]]:
    return frozen_views(loaded, [training_row(loaded, fact, asking.protocol) for _, fact in _asked(asking)], asking.batch_size)


def _states(view: View) -> Tensor:
    rows_, columns = view.batch.places
    return view.hidden[rows_, columns - 1]


def _by_row(view: View, values: Tensor) -> list[Tensor]:
    return list(values.split(torch.bincount(view.batch.places[0], minlength=len(view.batch)).tolist()))


def _log_probabilities(loaded: LoadedModel, states: Tensor, head: torch.nn.Module) -> Tensor:
    architecture = copy.copy(loaded.architecture)
    architecture.head = head  # type: ignore[assignment]
    return torch.log_softmax(architecture.logits(states).float(), dim=-1)
