"""UNDIAL: self-distillation from the reference's logits with the true token's logit lowered (arXiv 2402.10052)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
# compat: open-unlearning's value, which averages over all predicted positions of the padded batch and, where there is no
# label (-100), lowers entry V - 100 of the vocabulary.
SETTINGS: Mapping[str, Any] = {"beta": 10.0, "compat": False}
REFERENCE = {FORGET: "logits"}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError if beta is negative."""
    positive("beta", settings["beta"], zero=True)


def per(settings: Mapping[str, Any]) -> str:
    """A unit is a labelled token; with compat, a position."""
    return "position" if settings["compat"] else PER


def reference(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """With compat, logits of every position."""
    return {FORGET: "all_logits"} if settings["compat"] else REFERENCE


def weights(batch: RowBatch, settings: Mapping[str, Any]) -> Tensor:
    """The token weights [N]; with compat, 1 at all positions but the last, which predicts nothing [B * L]."""
    if not settings["compat"]:
        return batch.token_weights
    predicting = torch.ones_like(batch.weights)
    predicting[:, -1] = 0
    return predicting.flatten()


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """Cross-entropy to softmax(zref - beta onehot(label)); [N], nats ([B * L] with compat)."""
    forget = rows[FORGET]
    if not settings["compat"]:
        return _distilled(forget.logits, forget.reference.logits, forget.batch.targets, settings["beta"])
    size = forget.all_logits.shape[-1]
    labels = forget.batch.labels.roll(-1, dims=1).remainder(size)
    before = forget.reference.all_logits.flatten(0, 1)
    return _distilled(forget.all_logits.flatten(0, 1), before, labels.flatten(), settings["beta"])


def _distilled(logits: Tensor, before: Tensor, labels: Tensor, beta: float) -> Tensor:
    lowered = before.scatter_add(1, labels[:, None], torch.full_like(before[:, :1], -beta))
    return cross_entropy(logits, torch.softmax(lowered, dim=-1), reduction="none")
