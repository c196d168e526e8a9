"""Linear CKA between models' hidden states as a depth score (spec: depth, section 7; Kornblith et al. 2019).

Weak by itself: the published meta-evaluation finds that it hardly survives relearning. Kept as a baseline of UDS.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unierase_cli.representation.erasure import BlockErasure, clipped
from unierase_cli.representation.states import States

EPSILON = 1e-8


def linear_cka(first: Tensor, second: Tensor) -> float:
    """||Y^T X||^2 / (||X^T X|| ||Y^T Y||), Frobenius norms, of states [N, h] with centred columns; computed in float64.

    Not a number where one of them does not vary.
    """
    x, y = (states.double() - states.double().mean(dim=0) for states in (first, second))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def similarity_erasure(full: States, retain: States, unlearned: States) -> list[BlockErasure]:
    """Per block (CKA(u, r) - CKA(f, r)) / (1 - CKA(f, r)), cut to [0, 1]; weight 1 - CKA(f, r)."""
    blocks = []
    for layer in range(full.of[0].shape[0]):
        f, r, u = (torch.cat([own[layer] for own in states.of]) for states in (full, retain, unlearned))
        before, after = linear_cka(f, r), linear_cka(u, r)
        erasure = clipped((after - before) / (1 - before + EPSILON))
        blocks.append(BlockErasure(layer, before, after, erasure, max(1 - before, 0.0)))
    return blocks
