"""What an edit changed, as data: token rows and low-rank factors, with the hash of the weights that they belong to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.store.artefacts import write_json
from unierase_cli.store.tensors import load_tensors, save_tensors

# What a patch's json keeps of its token rows beside the rows themselves.
ABOUT_TOKENS = ("names", "ids", "assignment", "targets", "info")


@dataclass
class Patch:
    """One step's change. ``factors``: layer -> Delta = left @ right.T (float32). ``base_hashes``: projection name ->
    hash of the unedited tensor. ``info``: what is reported of the edit (JSON-able).
    """

    tokens: TokenRows | None
    factors: dict[int, LowRank]
    base_hashes: dict[str, str]
    info: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: Path, index: int) -> None:
        """Write ``patch-<index>.safetensors`` and ``patch-<index>.json``, the json last."""
        tensors: dict[str, Tensor] = {}
        for layer, factor in self.factors.items():
            tensors[f"layer.{layer}.left"], tensors[f"layer.{layer}.right"] = factor.left, factor.right
        about: dict[str, Any] | None = None
        if self.tokens is not None:
            rows = self.tokens
            tensors["tokens.rows_in"] = rows.rows_in
            if rows.rows_out is not None:
                tensors["tokens.rows_out"] = rows.rows_out
            about = {name: getattr(rows, name) for name in ABOUT_TOKENS}
        save_tensors(_path(directory, index, "safetensors"), tensors)
        record = {"layers": sorted(self.factors), "tokens": about, "base_hashes": self.base_hashes, "info": self.info}
        write_json(_path(directory, index, "json"), record)

    @classmethod
    def load(cls, directory: Path, index: int) -> Patch:
        """Read what ``save`` wrote. Raises UserError when a file is missing or damaged."""
        path = _path(directory, index, "json")
        try:
            record = json.loads(path.read_text("utf-8"))
            tensors = load_tensors(_path(directory, index, "safetensors"))
            factors = {n: LowRank(tensors[f"layer.{n}.left"], tensors[f"layer.{n}.right"]) for n in record["layers"]}
            about = record["tokens"]
            rows = (
                None
                if about is None
                else TokenRows(rows_in=tensors["tokens.rows_in"], rows_out=tensors.get("tokens.rows_out"), **about)
            )
            return cls(rows, factors, record["base_hashes"], record["info"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is missing or damaged ({error})", "make the edit anew with --force") from error


def has_patch(directory: Path, index: int) -> bool:
    """Whether step ``index`` was saved completely."""
    return _path(directory, index, "json").exists()


def apply_patches(loaded: LoadedModel, patches: Sequence[Patch]) -> AppliedPatch:
    """Set token rows and weights: round(base + sum of factors in float32, in step order).

    Raises UserError, with the model left as it was, when a patch was made for other weights.
    """
    applied = AppliedPatch(loaded)
    for patch in patches:
        applied.check(patch.base_hashes)
    for patch in patches:
        applied.add_patch(patch.tokens, patch.factors)
    return applied


def joined(factors: Sequence[LowRank]) -> LowRank:
    """The sum of several changes of one matrix as one pair of factors."""
    return LowRank(torch.cat([f.left for f in factors], dim=1), torch.cat([f.right for f in factors], dim=1))


def _path(directory: Path, index: int, ending: str) -> Path:
    return directory / f"patch-{index:03d}.{ending}"
