"""KL: keeps predictions on retain answers close to the reference model's; answer tokens only (compare kl_all)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import kl_div

from unierase_cli.methods.terms.base import RETAIN
from unierase_cli.training.unlearning.views import View

ROWS = (RETAIN,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE = {RETAIN: "logits"}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """KL(pref || p) of each labelled token; [N], nats."""
    return divergence(rows[RETAIN].reference.logits, rows[RETAIN].logits)


def divergence(before: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax(before) || softmax(logits)) over the last dimension, nats."""
    return kl_div(logits.log_softmax(-1), before.log_softmax(-1), reduction="none", log_target=True).sum(-1)
