"""A model's weights as base plus changes: what is written is always rebuilt from the base, so taking it back is
bit-exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows, apply_token
from unierase_cli.store.hashing import hash_bytes


def hash_tensor(tensor: Tensor) -> str:
    """``dtype:sha256`` of a tensor's type, shape and bytes."""
    raw = tensor.detach().to("cpu").contiguous().view(torch.uint8).numpy().tobytes()
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind}:{hash_bytes(f'{kind} {list(tensor.shape)}'.encode(), raw)}"


class AppliedPatch:
    """Changes on a loaded model. Weights are round(base + sum of factors, added in float32 in their order)."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._base: dict[int, Tensor] = {}
        self._total: dict[int, Tensor] = {}
        self._rows: tuple[int, list[int], Tensor, Tensor | None, list[int]] | None = None

    @property
    def layers(self) -> list[int]:
        """Layers with a change."""
        return sorted(self._base)

    def hashes(self, layers: Sequence[int]) -> dict[str, str]:
        """Projection name -> hash of the unedited tensor."""
        architecture = self.loaded.architecture
        return {
            architecture.projection_name(n): hash_tensor(self._base.get(n, _stored(self.loaded, n))) for n in layers
        }

    def check(self, expected: Mapping[str, str]) -> None:
        """Raise UserError unless the model's unedited projections have these hashes."""
        architecture = self.loaded.architecture
        names = {architecture.projection_name(n): n for n in range(architecture.n_blocks)}
        for name, wanted in expected.items():
            if name not in names:
                raise UserError(
                    f"the patch changes {name}, which this model does not have", "apply it to the model it was made for"
                )
            found = self.hashes([names[name]])[name]
            if found != wanted:
                kinds = f"{wanted.split(':')[0]} weights, this one has {found.split(':')[0]}"
                reason = (
                    f"it was made on {kinds}" if wanted.split(":")[0] != found.split(":")[0] else "its content differs"
                )
                raise UserError(
                    f"the patch belongs to another model: {name}: {reason}", "load the model that it was made for"
                )

    def add(self, layer: int, factor: LowRank) -> None:
        """Add Delta = left @ right.T to a layer."""
        self.put(layer, self.total(layer) + _dense(factor, self._stored_device(layer)))

    def total(self, layer: int) -> Tensor:
        """Base plus changes so far, [h, d] float32, not rounded; not to be written to."""
        return self._total[layer] if layer in self._total else self.loaded.architecture.weight(layer)

    def put(self, layer: int, total: Tensor) -> None:
        """Set a layer to an unrounded total [h, d]."""
        if layer not in self._base:
            self._base[layer] = _stored(self.loaded, layer).clone()
        self._total[layer] = total
        self.loaded.architecture.set_weight(layer, total)

    def add_patch(self, tokens: TokenRows | None, factors: Mapping[int, LowRank]) -> None:
        """One step's change: rows, then layers in ascending order."""
        if tokens is not None:
            self.set_tokens(tokens)
        for layer, factor in sorted(factors.items()):
            self.add(layer, factor)

    def unchanged(self) -> bool:
        """Whether every touched projection has the base's bits: all changes were lost in rounding."""
        return all(torch.equal(base, _stored(self.loaded, layer)) for layer, base in self._base.items())

    def change(self, layer: int) -> tuple[float, float]:
        """Frobenius norms of the change (after rounding) and of the base."""
        base = self._base[layer].float()
        return float((_stored(self.loaded, layer).float() - base).norm()), float(base.norm())

    def set_tokens(self, rows: TokenRows) -> None:
        """Add the unlearning tokens and set their rows."""
        architecture = self.loaded.architecture
        if self._rows is None:
            size = architecture.embedding.weight.shape[0]
            ids = [i for i in rows.ids if i < size]
            head = None if architecture.tied else architecture.head.weight.detach()[ids].clone()
            self._rows = (
                size,
                ids,
                architecture.embedding.weight.detach()[ids].clone(),
                head,
                list(self.loaded.unlearn_ids),
            )
        apply_token(self.loaded, rows)

    def revert(self) -> None:
        """Give the model its bits back: projections, token rows and the size of the vocabulary."""
        with torch.no_grad():
            for layer, base in self._base.items():
                _stored(self.loaded, layer).copy_(base)
        self._base.clear()
        self._total.clear()
        if self._rows is not None:
            self._revert_rows(*self._rows)
            self._rows = None

    def _revert_rows(
        self, size: int, ids: list[int], rows_in: Tensor, rows_out: Tensor | None, unlearn_ids: list[int]
    ) -> None:
        loaded = self.loaded
        if loaded.architecture.embedding.weight.shape[0] != size:
            loaded.model.resize_token_embeddings(size, mean_resizing=False)
            loaded.architecture.refresh_ends(loaded.model)
            loaded.model.requires_grad_(False)
        with torch.no_grad():
            loaded.architecture.embedding.weight[ids] = rows_in
            if rows_out is not None:
                loaded.architecture.head.weight[ids] = rows_out
        loaded.unlearn_ids = unlearn_ids

    def _stored_device(self, layer: int) -> torch.device:
        return _stored(self.loaded, layer).device


def _stored(loaded: LoadedModel, layer: int) -> Tensor:
    """The projection's parameter as the model keeps it."""
    return loaded.architecture.projection(layer).weight.detach()


def _dense(factor: LowRank, device: torch.device) -> Tensor:
    return LowRank(factor.left.to(device), factor.right.to(device)).dense()
