"""KL over every position of the padded batch (prompt, answer and padding), as in closer-look and open-unlearning.

The value depends on the padded length and on how the attention implementation treats padded positions; compare kl.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import RETAIN
from unierase_cli.methods.terms.kl import divergence
from unierase_cli.training.unlearning.views import View

ROWS = (RETAIN,)
PER = "position"
SETTINGS: Mapping[str, Any] = {}
REFERENCE = {RETAIN: "all_logits"}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """KL(pref || p) of each position; [B * L], nats."""
    return divergence(rows[RETAIN].reference.all_logits, rows[RETAIN].all_logits).flatten()
