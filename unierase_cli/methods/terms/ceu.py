"""CE-U: cross-entropy to the model's own predictions with the true token excluded (arXiv 2503.01224)."""

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
# skip: number of first tokens of each answer to leave out.
SETTINGS: Mapping[str, Any] = {"skip": 1}
REFERENCE: Mapping[str, str] = {}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError if ``skip`` is negative."""
    positive("skip", settings["skip"], zero=True)


def weights(batch: RowBatch, settings: Mapping[str, Any]) -> Tensor:
    """The token weights, 0 for the first ``skip`` tokens; [N]."""
    counted: Tensor = batch.turn >= settings["skip"]
    return batch.token_weights * counted


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """Cross-entropy to softmax(z with the label's logit -inf), no gradient through the target; [N], nats."""
    forget = rows[FORGET]
    others = forget.logits.detach().scatter(-1, forget.batch.targets[:, None], -torch.inf)
    return cross_entropy(forget.logits, torch.softmax(others, dim=-1), reduction="none")
