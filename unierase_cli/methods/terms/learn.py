"""Learns the forget answers, to make a task vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE: Mapping[str, str] = {}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-log p(answer token); [N]."""
    return rows[FORGET].nll
