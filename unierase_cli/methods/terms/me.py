"""ME: pulls predictions on the answers to forget towards the uniform distribution (maximise entropy, arXiv 2410.08109)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "token"
SETTINGS: Mapping[str, Any] = {}
REFERENCE: Mapping[str, str] = {}


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """KL(uniform || p) = sum_v (1 / V) (log(1 / V) - log(p_v + 1e-12)); [N], nats. Its gradient is not that of -H(p)."""
    logits = rows[FORGET].logits
    # The reference's numerics: log-probabilities are bounded at log 1e-12.
    bounded = torch.log(torch.softmax(logits, dim=-1) + 1e-12)
    return -math.log(logits.shape[-1]) - bounded.mean(dim=-1)
