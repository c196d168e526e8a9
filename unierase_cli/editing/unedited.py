"""Temporarily restores the original weights behind a chain of edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from unierase_cli.editing.weights import AppliedPatch


def unedited(weights: AppliedPatch) -> Callable[[], AbstractContextManager[None]]:
    """A context in which the model computes with its unedited weights; afterwards the edited tensors are back.

    Call this while the parameters have their own names (adapters rename them); enter the context later. Inside, the
    changed tensors are held twice. Rows of unlearning tokens stay.
    """
    named = dict(weights.loaded.model.named_parameters())
    pairs = [(named[name], base) for name, base in weights.bases.items()]

    @contextmanager
    def inside() -> Iterator[None]:
        kept = [parameter.data for parameter, _ in pairs]
        try:
            for parameter, base in pairs:
                parameter.data = base.to(parameter.device, parameter.dtype)
            yield
        finally:
            for (parameter, _), data in zip(pairs, kept, strict=True):
                parameter.data = data

    return inside
