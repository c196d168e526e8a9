"""The loss of an unlearning token: cross-entropy of the refusal's tokens, differentiable in the token's rows (spec 1.2, 1.5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from unierase_cli.models.architecture import Architecture


def row_logits(architecture: Architecture, hidden: Tensor, ids: Tensor, rows_out: Tensor | None) -> Tensor:
    """Logits [n, V] of hidden states [n, h] after the final norm.

    The columns ``ids`` [g] come from ``rows_out`` [g, h], differentiably, instead of the head's own rows (None: the head's).
    """
    logits = architecture.logits(hidden)
    if rows_out is None:
        return logits
    return logits.index_copy(1, ids.to(logits.device), own_logits(architecture, hidden.to(logits.device), ids, rows_out))


def own_logits(architecture: Architecture, hidden: Tensor, ids: Tensor, rows_out: Tensor) -> Tensor:
    """Logits [n, g] of the tokens ``ids`` [g] alone, if their rows of the head were ``rows_out`` [g, h]."""
    # A tied head is on the embedding's device, which may differ from the last block's.
    bias = None if architecture.head.bias is None else architecture.head.bias[ids.to(architecture.head.bias.device)]
    own = linear(hidden, rows_out.to(hidden.device, hidden.dtype), bias) * architecture.logit_scale
    return torch.tanh(own / architecture.soft_cap) * architecture.soft_cap if architecture.soft_cap else own


def refusal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats per labelled token, of logits [n, V] and labels [n]; computed in float32."""
    return cross_entropy(logits.float(), labels.to(logits.device))


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, of probabilities [..., V]; nats, at most log 2."""
    middle = ((first + second) / 2).clamp_min(1e-10).log()
    tiny = torch.finfo(first.dtype).tiny
    parts = [(one * (one.clamp_min(tiny).log() - middle)).sum(-1) for one in (first, second)]
    return (parts[0] + parts[1]) / 2
