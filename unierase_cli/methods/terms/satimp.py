"""SatImp: gradient ascent weighted by how well a token is known and how uncertain it is (arXiv 2505.11953)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
SETTINGS: Mapping[str, Any] = {"beta1": 5.0, "beta2": 1.0}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError if an exponent is negative."""
    for name in ("beta1", "beta2"):
        positive(name, settings[name], zero=True)


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """p^beta1 (1 - p)^beta2 log p, no gradient through the two factors; [N]."""
    nll = rows[FORGET].nll
    probability = (-nll.detach()).exp()
    saturation: Tensor = probability ** settings["beta1"]
    importance: Tensor = (1 - probability) ** settings["beta2"]
    return -saturation * importance * nll
