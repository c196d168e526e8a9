"""IDK: fine-tuning on refusals to the questions to forget (TOFU, arXiv 2401.06121)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import FORGET_REFUSAL
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET_REFUSAL,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE: Mapping[str, str] = {}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-log p(label) of the refusal; [N], nats."""
    return rows[FORGET_REFUSAL].nll
