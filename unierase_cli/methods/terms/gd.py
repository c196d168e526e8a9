"""GD: gradient descent on retain answers, as in fine-tuning (gradient difference, arXiv 2203.12817)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import RETAIN
from unierase_cli.training.unlearning.views import View

ROWS = (RETAIN,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE: Mapping[str, str] = {}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-log p(label); [N], nats."""
    return rows[RETAIN].nll
