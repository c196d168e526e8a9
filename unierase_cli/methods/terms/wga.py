"""WGA: gradient ascent that fades as an answer is forgotten (weighted gradient ascent, arXiv 2502.19301)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
SETTINGS: Mapping[str, Any] = {"beta": 1.0}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError if beta is negative."""
    positive("beta", settings["beta"], zero=True)


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """p^beta log p, no gradient through p^beta; [N]."""
    beta: float = settings["beta"]
    nll = rows[FORGET].nll
    probability = (-nll.detach()).exp()
    return -(probability**beta) * nll
