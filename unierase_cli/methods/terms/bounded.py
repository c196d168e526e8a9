"""Bounded ascent: raises the negative log-probability of the answers to forget up to a margin, and no further."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
# margin: nats per answer token; null: log of the vocabulary's size, a uniform guess.
SETTINGS: Mapping[str, Any] = {"margin": None}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError unless the margin is positive."""
    if settings["margin"] is not None:
        positive("margin", settings["margin"])


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """max(0, margin + log p(label)); [N], nats. A token beyond the margin has no gradient, so the ascent cannot run away."""
    forget, margin = rows[FORGET], settings["margin"]
    return ((math.log(forget.logits.shape[-1]) if margin is None else margin) - forget.nll).clamp_min(0)
