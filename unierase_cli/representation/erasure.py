"""A score that is a weighted mean over blocks: what CKA and masked Fisher have in common (spec: depth, section 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockErasure:
    """One block. ``full`` and ``unlearned``: what was measured between that model and the retain model. ``erasure`` is in [0, 1].

    ``weight``: how far the block tells the full model from the retain model.
    """

    block: int
    full: float
    unlearned: float
    erasure: float
    weight: float


def weighted_erasure(blocks: Sequence[BlockErasure]) -> float | None:
    """Mean erasure by weight; None where no block tells the full model from the retain model."""
    total = math.fsum(block.weight for block in blocks)
    return math.fsum(block.erasure * block.weight for block in blocks) / total if total > 0 else None


def clipped(value: float) -> float:
    """``value`` cut to [0, 1]."""
    return min(max(value, 0.0), 1.0)
