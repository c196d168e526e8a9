"""A model on the way to another one, for a while: every parameter is moved, and put back bit for bit (spec: audit, section 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.weight_changes import interpolated


@contextmanager
def moved_towards(loaded: LoadedModel, other: LoadedModel, amount: float) -> Iterator[None]:
    """While inside, every parameter of ``loaded`` is p + ``amount`` * (q - p), with q that of ``other``, rounded to its own type.

    Rows of embedding and head that ``other`` lacks, those of unlearning tokens, stay as they are. Raises UserError for models
    of other shapes, before anything is changed.
    """
    pairs = _pairs(loaded, other)
    kept = [own.to("cpu", copy=True) for _, own, _ in pairs]
    try:
        for name, own, there in pairs:
            own.copy_(interpolated(own.float(), there.to(own.device).float(), amount, name))
        yield
    finally:
        for (_, own, _), before in zip(pairs, kept, strict=True):
            own.copy_(before)


def _pairs(loaded: LoadedModel, other: LoadedModel) -> list[tuple[str, Tensor, Tensor]]:
    """Name and data of both models' parameters; of vocabulary matrices the rows that both have."""
    ends = (loaded.architecture.embedding.weight, loaded.architecture.head.weight, loaded.architecture.head.bias)
    vocabulary = {id(end) for end in ends if end is not None}
    theirs = dict(other.model.named_parameters())
    pairs = []
    for name, parameter in loaded.model.named_parameters():
        own, there = parameter.data, theirs[name].data if name in theirs else torch.empty(0)
        if id(parameter) in vocabulary:
            rows = min(len(own), len(there))
            own, there = own[:rows], there[:rows]
        if own.shape != there.shape or not own.numel():
            raise UserError(
                f"{name} has another shape in the other model, or is not in it",
                "interpolate between models of one architecture",
            )
        pairs.append((name, own, there))
    return pairs
