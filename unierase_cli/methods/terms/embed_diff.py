"""RMU's retain term: keeps hidden states of retain answers close to their reference values (arXiv 2403.03218)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import RETAIN
from unierase_cli.methods.terms.rmu import batch_wide, blocks, check, distances, settled
from unierase_cli.training.unlearning.views import View

__all__ = ["PER", "REFERENCE", "ROWS", "SETTINGS", "batch_wide", "blocks", "check", "settled", "values"]

ROWS = (RETAIN,)
PER = "row"
# layer, compat: as in rmu.
SETTINGS: Mapping[str, Any] = {"layer": None, "compat": False}
REFERENCE = {RETAIN: "blocks"}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """Mean over a row's answer tokens (their own positions) of mean_d (h - href)^2; [B]."""
    retain, layer = rows[RETAIN], settings["layer"]
    return distances(retain, retain.block_output(layer), retain.reference.block_output(layer), settings["compat"])
