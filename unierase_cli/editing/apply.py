"""Applies patches to a model, one after another."""

from __future__ import annotations

from collections.abc import Iterable

from unierase_cli.editing.patch import Patch
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel
from unierase_cli.store.tensors import check_finite


def apply_patches(loaded: LoadedModel, patches: Iterable[Patch]) -> AppliedPatch:
    """Set token rows and weights: round(base + sum of changes in float32, in step order); ``dense`` tensors replace
    both.

    Patches from an iterator are read one at a time. Raises UserError, with the model unchanged, if a patch was made for
    other weights or leaves weights that are not finite.
    """
    applied = AppliedPatch(loaded)
    checked: dict[str, str] = {}
    try:
        for patch in (part for whole in patches for part in whole.parts):
            applied.check({name: wanted for name, wanted in patch.base_hashes.items() if checked.get(name) != wanted})
            checked |= patch.base_hashes
            applied.add_patch(patch)
        # Finite weights plus a finite change can overflow the weights' dtype.
        check_finite(applied.parameters(), "the model with the patch", "load it with model.dtype=float32 or bfloat16")
    except BaseException:
        applied.revert()
        raise
    return applied
