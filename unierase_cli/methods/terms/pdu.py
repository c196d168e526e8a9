"""PDU: flattens logits on the answers to forget; a dual variable holds the retain loss at a bound (arXiv 2506.05314)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.rows import IGNORED, RowBatch
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
# eps: bound of the retain loss, nats per token; step: step size of the dual variable, which starts at the retain term's
# weight; warmup_epochs: epochs before the dual variable is updated. compat: open-unlearning's value, which reads logits at
# the labels' own positions instead of one before.
SETTINGS: Mapping[str, Any] = {"eps": 0.3, "step": 1.0, "warmup_epochs": 5, "compat": False}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError on negative numbers."""
    for name in ("eps", "step", "warmup_epochs"):
        positive(name, settings[name], zero=True)


def weights(batch: RowBatch, settings: Mapping[str, Any]) -> Tensor:
    """The tokens' weights; [N]."""
    return batch.weights[batch.labels != IGNORED] if settings["compat"] else batch.token_weights


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """(max_v z - mean_v z)^2; [N]."""
    logits = rows[FORGET].logits_at_labels if settings["compat"] else rows[FORGET].logits
    return (logits.amax(dim=-1) - logits.mean(dim=-1)) ** 2


def after_step(
    state: dict[str, float], losses: Mapping[str, float], epoch: int, settings: Mapping[str, Any]
) -> dict[str, float]:
    """The retain term's weight: max(0, weight + step (R - eps)), once ``warmup_epochs`` are over (epochs count from 0)."""
    if epoch < settings["warmup_epochs"] or "retain" not in losses:
        return state
    moved = state["retain"] + settings["step"] * (losses["retain"] - settings["eps"])
    return {**state, "retain": max(0.0, moved)}
