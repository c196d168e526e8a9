"""NPO: negative preference optimisation against the reference (arXiv 2404.05868; closer-look's scale: 2 ln 2 / beta at start)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "row"
SETTINGS: Mapping[str, Any] = {"beta": 0.1}
REFERENCE = {FORGET: "row_sums"}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError unless beta is positive."""
    positive("beta", settings["beta"])


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-(2 / beta) log sigma(beta (S - Sref)), S a row's sum of negative log-probabilities; [B]."""
    beta: float = settings["beta"]
    forget = rows[FORGET]
    log_odds: Tensor = logsigmoid(beta * (forget.row_sums - forget.reference.row_sums))
    return -2 / beta * log_odds
