"""An edit as data: token rows, low-rank changes or final tensors, with hashes of the weights they apply to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import asdict
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.json_text import write_json
from unierase_cli.store.patch_files import Place, patch_path, places_of, read_record
from unierase_cli.store.tensors import check_finite, load_tensors, save_tensors


@dataclass
class Patch:
    """One step's change.

    ``factors``: layer -> Delta = left @ right.T [h, d] of its projection (float32). ``dense``: parameter name -> final
    tensor in the model's dtype, which replaces the parameter. ``named``: parameter name -> Delta = left @ right.T
    [rows, columns], as the parameter is stored. ``base_hashes``: projection name (of ``factors``) or parameter name ->
    hash of the unedited tensor. ``info``: the report of the edit (JSON-able). Parameter names are those of
    ``named_parameters()``. ``before``: changes of the same step by earlier parts of a chain, applied first; ``part``: name of
    the part that made this one.
    """

    tokens: TokenRows | None
    factors: dict[int, LowRank]
    base_hashes: dict[str, str]
    info: dict[str, Any] = field(default_factory=dict)
    dense: dict[str, Tensor] = field(default_factory=dict)
    named: dict[str, LowRank] = field(default_factory=dict)
    before: tuple[Patch, ...] = ()
    part: str = ""

    @property
    def parts(self) -> tuple[Patch, ...]:
        """The change part by part, in the order in which they apply."""
        return (*self.before, replace(self, before=()))

    @property
    def rows(self) -> TokenRows | None:
        """The token rows after all parts."""
        return next((one.tokens for one in reversed(self.parts) if one.tokens is not None), None)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save, by their names in the file; without those of earlier parts."""
        found: dict[str, Tensor] = {}
        for layer, factor in self.factors.items():
            found[f"layer.{layer}.left"], found[f"layer.{layer}.right"] = factor.left, factor.right
        for name, factor in self.named.items():
            found[f"named.{name}.left"], found[f"named.{name}.right"] = factor.left, factor.right
        found |= {f"dense.{name}": tensor for name, tensor in self.dense.items()}
        if self.tokens is not None:
            found["tokens.rows_in"] = self.tokens.rows_in
            if self.tokens.rows_out is not None:
                found["tokens.rows_out"] = self.tokens.rows_out
        return found

    def save(self, directory: Path, index: int, part: int | None = None) -> None:
        """Write ``patch-<index>.safetensors``, then ``patch-<index>.json``, after those of earlier parts. ``part``: this is one.

        Raises UserError for a change that is not finite.
        """
        for place, earlier in enumerate(self.before):
            earlier.save(directory, index, place)
        check_finite(self.tensors().items(), f"the change of step {index}", "lower the rate or the strength of the edit")
        save_tensors(patch_path(directory, index, "safetensors", part), self.tensors())
        record = {
            "layers": sorted(self.factors),
            "dense": list(self.dense),
            "named": list(self.named),
            "tokens": None if self.tokens is None else asdict(self.tokens.record),
            "base_hashes": self.base_hashes,
            "info": self.info,
        }
        if self.before:
            record["parts"] = [one.part for one in self.parts]
        write_json(patch_path(directory, index, "json", part), record)

    @classmethod
    def load(cls, directory: Path, index: int) -> Patch:
        """Read what ``save`` wrote. Raises UserError if a file is missing or damaged, or has numbers that are not finite."""
        record = read_record(directory, index)
        names = record.parts or [""]
        found = [cls.read(directory, place) for place in places_of(record, index)]
        *before, last = (replace(one, part=name) for one, name in zip(found, names, strict=True))
        return replace(last, before=tuple(before))

    @classmethod
    def read(cls, directory: Path, place: Place) -> Patch:
        """One part of a step. Raises UserError as ``load`` does."""
        index, part = place
        record = read_record(directory, index, part)
        file = patch_path(directory, index, "safetensors", part)
        tensors = load_tensors(file)
        check_finite(tensors.items(), file, "make the edit again with --force")
        try:
            factors = {n: LowRank(tensors[f"layer.{n}.left"], tensors[f"layer.{n}.right"]) for n in record.layers}
            dense = {n: tensors[f"dense.{n}"] for n in record.dense}
            named = {n: LowRank(tensors[f"named.{n}.left"], tensors[f"named.{n}.right"]) for n in record.named}
            rows = None
            if record.tokens is not None:
                about = asdict(record.tokens)
                rows = TokenRows(rows_in=tensors["tokens.rows_in"], rows_out=tensors.get("tokens.rows_out"), **about)
            _check_factors([*factors.values(), *named.values()])
            return cls(rows, factors, record.base_hashes, record.info, dense, named)
        except (KeyError, ValueError) as error:
            path = patch_path(directory, index, "json", part)
            raise UserError(f"{path} is missing or damaged ({error})", "make the edit again with --force") from error


def _check_factors(factors: Iterable[LowRank]) -> None:
    """Raise ValueError unless each is a pair of matrices with the same number of columns."""
    for factor in factors:
        pair = (factor.left, factor.right)
        if any(one.dim() != 2 or not one.is_floating_point() for one in pair) or pair[0].shape[1] != pair[1].shape[1]:
            raise ValueError("a change is not a pair of matrices with the same number of columns")


def changed_parameters(patch: Patch, loaded: LoadedModel) -> int:
    """Number of parameters that a patch changes: all elements of changed tensors and of the token rows."""
    sizes: dict[str, int] = {}
    for one in patch.parts:
        sizes |= {f"{loaded.architecture.projection_name(n)}.weight": _size(f) for n, f in one.factors.items()}
        sizes |= {name: _size(change) for name, change in one.named.items()}
        sizes |= {name: tensor.numel() for name, tensor in one.dense.items()}
    rows = [] if patch.rows is None else [patch.rows.rows_in, patch.rows.rows_out]
    return sum(sizes.values()) + sum(r.numel() for r in rows if r is not None)


def _size(change: LowRank) -> int:
    return change.left.shape[0] * change.right.shape[0]


def joined(factors: Sequence[LowRank]) -> LowRank:
    """The sum of several changes of one matrix as one pair of factors."""
    return LowRank(torch.cat([f.left for f in factors], dim=1), torch.cat([f.right for f in factors], dim=1))
