"""AP: on retain questions, prefers the answer to a refusal (answer preservation, arXiv 2410.08109)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import RETAIN, RETAIN_REFUSAL
from unierase_cli.training.unlearning.views import View

ROWS = (RETAIN, RETAIN_REFUSAL)
PER = "row"
SETTINGS: Mapping[str, Any] = {"beta": 0.1}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError unless beta is positive."""
    positive("beta", settings["beta"])


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """-(1 / beta) log sigma(beta (Srefusal - S)), S a row's sum of negative log-probabilities; [B]. Factor 1, not NPO's 2."""
    beta: float = settings["beta"]
    log_odds: Tensor = logsigmoid(beta * (rows[RETAIN_REFUSAL].row_sums - rows[RETAIN].row_sums))
    return -1 / beta * log_odds
