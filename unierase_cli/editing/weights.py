"""A model's weights as base plus changes, always rebuilt from the base, so that reverting is bit-exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows, apply_token
from unierase_cli.models.vocabulary import get_bias, get_rows, put_back_rows
from unierase_cli.store.hashing import hash_bytes
from unierase_cli.store.unlearned import TAKEN_OVER

if TYPE_CHECKING:
    from unierase_cli.editing.patch import Patch

Rows = tuple[int, list[int], Tensor, Tensor | None, Tensor | None, list[int]]


def hash_tensor(tensor: Tensor) -> str:
    """``dtype:sha256`` of a tensor's dtype, shape and bytes."""
    raw = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind}:{hash_bytes(f'{kind} {list(tensor.shape)}'.encode(), raw)}"


class AppliedPatch:
    """Changes on a loaded model: weights are round(base + sum of changes, added in float32 in order).

    A dense change is the new base of later ones. Parameters are named as in ``loaded.model.named_parameters()``, where
    a tied one appears once. The base of changed parameters, and only of those, is kept on the CPU.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._base: dict[str, Tensor] = {}
        # Unrounded values. Edited projections keep their total, since edits add to it often; other parameters (adapters
        # on every layer) are rebuilt from their base and changes. If in neither, the stored parameter is exact.
        self._total: dict[str, Tensor] = {}
        self._added: dict[str, tuple[Tensor, list[LowRank]]] = {}
        self._rows: Rows | None = None

    @property
    def layers(self) -> list[int]:
        """Layers whose projection has a change."""
        return [n for n in range(self.loaded.architecture.n_blocks) if self._name(n) in self._base]

    @property
    def bases(self) -> Mapping[str, Tensor]:
        """Parameter name -> the unedited tensor, on the CPU, of changed parameters; do not modify."""
        return self._base

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Name and current value of every changed parameter."""
        for name in self._base:
            yield name, self._parameter(name)

    def hashes(self, layers: Sequence[int]) -> dict[str, str]:
        """Projection name -> hash of the unedited tensor."""
        names = {self.loaded.architecture.projection_name(n): self._name(n) for n in layers}
        return {projection: hash_tensor(self._unedited(name)) for projection, name in names.items()}

    def hashes_of(self, names: Iterable[str]) -> dict[str, str]:
        """Parameter name -> hash of the unedited tensor. Raises UserError for a name that the model does not have."""
        return {name: hash_tensor(self._unedited(name)) for name in names}

    def check(self, expected: Mapping[str, str]) -> None:
        """Raise UserError unless the model's unedited projections and parameters have these hashes."""
        present = {name for name, _ in self.loaded.model.named_parameters()}
        for name, wanted in expected.items():
            found = hash_tensor(self._unedited(name if name in present else _weight(name), shown=name))
            if found != wanted:
                (kind, content), (kind_here, content_here) = wanted.split(":"), found.split(":")
                reason, hint = f"it was made on {kind} weights, this one has {kind_here}", f"load it with model.dtype={kind}"
                if kind == kind_here:
                    hint = "load the model that it was made for"
                    reason = f"its content differs (sha256 {content_here[:12]}, the patch was made on {content[:12]})"
                raise UserError(f"the patch belongs to another model: {name}: {reason}", hint)

    def add(self, layer: int, factor: LowRank) -> None:
        """Add Delta = left @ right.T [h, d] to a layer's projection. Raises UserError if the model has none of that shape."""
        self.loaded.architecture.check_layers([layer])
        here = list(self._oriented(layer, self._parameter(self._name(layer))).shape)
        given = [factor.left.shape[0], factor.right.shape[0]]
        if given != here:
            raise UserError(
                f"the patch's change of layer {layer} is {given}, the model's is {here}", "load the model it was made for"
            )
        self.put(layer, self.total(layer) + _dense(factor, self._parameter(self._name(layer)).device))

    def total(self, layer: int) -> Tensor:
        """Base plus changes so far, [h, d] float32, not rounded; do not modify."""
        return self._oriented(layer, self._unrounded(self._name(layer)))

    def put(self, layer: int, total: Tensor) -> None:
        """Set a layer's projection to an unrounded total [h, d]."""
        self._put(self._name(layer), self._oriented(layer, total))

    def set_dense(self, name: str, tensor: Tensor) -> None:
        """Replace a parameter by ``tensor`` of the same shape and dtype; its earlier changes are discarded.

        Raises UserError if the model has no such parameter.
        """
        parameter = self._parameter(name)
        if (tensor.shape, tensor.dtype) != (parameter.shape, parameter.dtype):
            kinds = f"{list(tensor.shape)} {tensor.dtype}, the model's is {list(parameter.shape)} {parameter.dtype}"
            raise UserError(f"the patch's {name} is {kinds}".replace("torch.", ""), "load the model it was made for")
        self._touch(name)
        self._total.pop(name, None)
        self._added.pop(name, None)
        with torch.no_grad():
            parameter.copy_(tensor)

    def add_named(self, name: str, change: LowRank) -> None:
        """Add Delta = left @ right.T to a parameter, [rows, columns] as it is stored.

        Raises UserError if the model has no such parameter.
        """
        parameter, change = self._parameter(name), change.float()
        shape = [change.left.shape[0], change.right.shape[0]]
        if shape != list(parameter.shape):
            raise UserError(
                f"the patch's change of {name} is {shape}, the model's is {list(parameter.shape)}",
                "load the model it was made for",
            )
        self._touch(name)
        if name in self._total:
            self._put(name, self._total[name] + _dense(change, parameter.device))
            return
        if name not in self._added:
            self._added[name] = (parameter.to("cpu", copy=True), [])
        self._added[name][1].append(change)
        with torch.no_grad():
            parameter.copy_(self._unrounded(name))

    def add_patch(self, patch: Patch) -> None:
        """Apply one step's change, part by part: token rows, dense tensors, named changes, then layers in ascending order."""
        for earlier in patch.before:
            self.add_patch(earlier)
        if patch.tokens is not None:
            self.set_tokens(patch.tokens)
        for name, tensor in patch.dense.items():
            self.set_dense(name, tensor)
        for name, change in patch.named.items():
            self.add_named(name, change)
        for layer, factor in sorted(patch.factors.items()):
            self.add(layer, factor)

    def unchanged(self) -> bool:
        """Whether every changed parameter equals the base bit by bit: all changes were lost in rounding."""
        return all(torch.equal(base, self._parameter(name).cpu()) for name, base in self._base.items())

    def change(self, layer: int) -> tuple[float, float]:
        """Frobenius norms of a layer's change (after rounding) and of its base."""
        stored = self._parameter(self._name(layer)).float()
        base = self._base[self._name(layer)].to(stored)
        return float((stored - base).norm()), float(base.norm())

    def set_tokens(self, rows: TokenRows) -> None:
        """Add the unlearning tokens and set their rows.

        Raises UserError if the embedding or the head has changed, and if the model has a different token of that name:
        facts that were forgotten with it would come back.
        """
        if any(self._is_end(name) for name in self._base):
            raise _both_ends()
        architecture = self.loaded.architecture
        if self._rows is None:
            self._check_names(rows)
            size = architecture.embedding.weight.shape[0]
            ids = [i for i in rows.ids if i < size]
            head = None if architecture.tied else architecture.head.weight.detach()[ids].clone()
            self._rows = (
                size,
                ids,
                architecture.embedding.weight.detach()[ids].clone(),
                head,
                get_bias(self.loaded, ids),
                list(self.loaded.unlearn_ids),
            )
        apply_token(self.loaded, rows)

    def _check_names(self, rows: TokenRows) -> None:
        """Check tokens the model had when loaded: their rows are the patch's, or the patch was made to replace them."""
        names = {self.loaded.tokenizer.convert_ids_to_tokens(index): index for index in self.loaded.unlearn_ids}
        for place, name in enumerate(rows.names):
            if name not in names or name in rows.info.get(TAKEN_OVER, ()):
                continue
            kind = self.loaded.architecture.embedding.weight.dtype
            here = get_rows(self.loaded, [names[name]])
            pairs = [(own, row[place]) for own, row in zip(here, (rows.rows_in, rows.rows_out), strict=True) if row is not None]
            if any(own is not None and not torch.equal(own[0].cpu(), row.to(kind).float().cpu()) for own, row in pairs):
                raise UserError(
                    f"the model has another {name} than the patch, and what it forgot with it would come back",
                    "apply the patch to the model it was made for",
                )

    def revert(self) -> None:
        """Restore the model bit by bit: parameters, token rows and vocabulary size."""
        with torch.no_grad():
            for name, base in self._base.items():
                self._parameter(name).copy_(base)
        for kept in (self._base, self._total, self._added):
            kept.clear()
        if self._rows is not None:
            size, ids, rows_in, rows_out, bias, unlearn_ids = self._rows
            put_back_rows(self.loaded, size, ids, rows_in, rows_out, bias)
            self.loaded.unlearn_ids, self._rows = unlearn_ids, None

    def _name(self, layer: int) -> str:
        return _weight(self.loaded.architecture.projection_name(layer))

    def _parameter(self, name: str, shown: str | None = None) -> Tensor:
        """The model's own parameter, to be modified in place."""
        if name in self._base:
            # Found before: no walk over all parameters for each fact and layer.
            return self.loaded.model.get_parameter(name).detach()
        found = dict(self.loaded.model.named_parameters()).get(name)
        if found is None:
            raise UserError(
                f"the patch changes {shown or name}, which this model does not have",
                "apply it to the model it was made for",
            )
        return found.detach()

    def _unedited(self, name: str, shown: str | None = None) -> Tensor:
        if name in self._base:
            return self._base[name]
        stored = self._parameter(name, shown)
        if self._rows is not None and self._is_end(name):
            raise _both_ends()
        return stored

    def _oriented(self, layer: int, weight: Tensor) -> Tensor:
        """From [h, d] to how the projection is stored, or back."""
        return weight.T if isinstance(self.loaded.architecture.projection(layer), Conv1D) else weight

    def _touch(self, name: str) -> None:
        """Save a parameter's base before its first change."""
        if name not in self._base:
            self._base[name] = self._unedited(name).to("cpu", copy=True)
            self._added[name] = (self._base[name], [])

    def _unrounded(self, name: str) -> Tensor:
        if name in self._total:
            return self._total[name]
        stored = self._parameter(name)
        start, changes = self._added.get(name, (stored, []))
        total = start.to(stored.device, torch.float32, copy=True)
        for change in changes:
            total += _dense(change, stored.device)
        return total

    def _put(self, name: str, total: Tensor) -> None:
        self._touch(name)
        self._added.pop(name, None)
        self._total[name] = total
        with torch.no_grad():
            self._parameter(name).copy_(total)

    def _is_end(self, name: str) -> bool:
        """Whether a parameter is the embedding's or the head's, where token rows are written."""
        ends = (self.loaded.architecture.embedding.weight, self.loaded.architecture.head.weight)
        return self._parameter(name).data_ptr() in {end.data_ptr() for end in ends}


def _weight(module_name: str) -> str:
    """The parameter name of a module's weight."""
    return f"{module_name}.weight"


def _both_ends() -> UserError:
    return UserError(
        "token rows and a change of the whole embedding or head cannot be combined",
        "erase with one of the two methods",
    )


def _dense(factor: LowRank, device: torch.device) -> Tensor:
    return LowRank(factor.left.to(device), factor.right.to(device)).dense()
