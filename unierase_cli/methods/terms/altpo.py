"""AltPO: prefers an alternative answer to the true one, with DPO's formula (arXiv 2409.13474)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import FORGET, FORGET_ALTERNATE
from unierase_cli.methods.terms.dpo import check, preference
from unierase_cli.training.unlearning.views import View

__all__ = ["PER", "REFERENCE", "ROWS", "SETTINGS", "check", "values"]

ROWS = (FORGET_ALTERNATE, FORGET)
PER = "row"
SETTINGS: Mapping[str, Any] = {"beta": 0.1}
REFERENCE = {FORGET_ALTERNATE: "row_sums", FORGET: "row_sums"}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """DPO loss with the alternative preferred to the answer; [B]."""
    return preference(rows[FORGET_ALTERNATE], rows[FORGET], settings["beta"])
