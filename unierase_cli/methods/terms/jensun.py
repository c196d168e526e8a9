"""JensUn on the forget set (arXiv 2509.02820): every answer position is pulled towards one token of a short refusal, in turn.

The loss is bounded by log 2, so that it cannot run away. Published with the retain term ``js``, both of weight 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.losses import jensen_shannon
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
# text: the refusal, repeated over the whole answer; tokens: its ids instead of the text's.
SETTINGS: Mapping[str, Any] = {"text": " No Idea", "tokens": None}
REFERENCE: Mapping[str, str] = {}
# Probabilities below this count as this.
LEAST = 1e-9


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError without a refusal, and for tokens that are no ids."""
    tokens = settings["tokens"]
    if tokens is not None and not (isinstance(tokens, list | tuple) and all(type(i) is int and i >= 0 for i in tokens)):
        raise UserError(
            f"method.forget.settings.tokens={tokens} must be a list of token ids", "for example method.forget.settings.tokens=[5,6]"
        )
    if not settings["text"] and not settings["tokens"]:
        raise UserError("JensUn needs a refusal", "leave the setting text out")


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """JSD(p, one-hot of the position's refusal token); [N], nats."""
    forget = rows[FORGET]
    ids = settings["tokens"] or forget.loaded.tokenizer.encode(settings["text"], add_special_tokens=False)
    if max(ids) >= (size := forget.logits.shape[-1]):
        raise UserError(f"the setting tokens has {max(ids)}, and the model's ids end at {size - 1}", "choose other tokens")
    cycle = torch.tensor(ids, device=forget.logits.device)
    wanted = torch.zeros_like(forget.logits)
    wanted.scatter_(1, cycle[forget.batch.turn % len(ids)][:, None], 1.0)
    return jensen_shannon(forget.logits.softmax(-1).clamp_min(LEAST), wanted.clamp_min(LEAST))
