"""SimNPO: NPO on mean negative log-probabilities, without a reference model (arXiv 2410.07163)."""

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
SETTINGS: Mapping[str, Any] = {"beta": 4.5, "delta": 0.0}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError unless beta is positive."""
    positive("beta", settings["beta"])


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-(2 / beta) log sigma(beta (S / n - delta)), n the sum of a row's token weights; [B]."""
    beta: float = settings["beta"]
    forget = rows[FORGET]
    lengths = forget.per_row(forget.batch.token_weights)
    # A row of zero weight has S = 0.
    mean = forget.row_sums / (lengths + (lengths == 0))
    log_odds: Tensor = logsigmoid(beta * (mean - settings["delta"]))
    return -2 / beta * log_odds
