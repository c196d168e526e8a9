"""DPO: prefers a refusal to the answer (arXiv 2305.18290; closer-look's scale: 2 ln 2 / beta at start)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET, FORGET_REFUSAL
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET_REFUSAL, FORGET)
PER = "row"
SETTINGS: Mapping[str, Any] = {"beta": 0.1}
REFERENCE = {FORGET_REFUSAL: "row_sums", FORGET: "row_sums"}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError unless beta is positive."""
    positive("beta", settings["beta"])


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """DPO loss with the refusal preferred to the answer; [B]."""
    return preference(rows[FORGET_REFUSAL], rows[FORGET], settings["beta"])


def preference(preferred: View, dispreferred: View, beta: float) -> Tensor:
    """-(2 / beta) log sigma(beta [(w - wref) - (l - lref)]), w and l log-probabilities of whole answers (row sums); [B]."""
    gained = preferred.reference.row_sums - preferred.row_sums
    lost = dispreferred.row_sums - dispreferred.reference.row_sums
    return -2 / beta * logsigmoid(beta * (gained + lost))
