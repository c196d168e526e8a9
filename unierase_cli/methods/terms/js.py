"""JS: keeps the predictions on retain answers, by the Jensen-Shannon divergence from the reference (JensUn, arXiv 2509.02820)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.methods.terms.base import RETAIN
from unierase_cli.training.unlearning.losses import jensen_shannon
from unierase_cli.training.unlearning.views import View

ROWS = (RETAIN,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE = {RETAIN: "logits"}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """JSD(p_reference, p); [N], nats, at most log 2."""
    retain = rows[RETAIN]
    return jensen_shannon(retain.reference.logits.softmax(-1), retain.logits.softmax(-1))
