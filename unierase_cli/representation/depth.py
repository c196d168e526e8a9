"""The arithmetic of depth scores: how much of what the retain model lacks does the unlearned model lack, block by block.

With d1 the log-probability that a row loses by the retain model's states of a block, and d2 the loss by the unlearned model's (nats
per token; spec: depth, section 5.2, after the unlearning depth score of arXiv 2605.24614):

    KE(row) = blocks with d1 > threshold          score(row) = sum over KE of d1 * clip(d2 / d1, 0, 1) / sum over KE of d1

A row without such a block has no score. 0: as readable as in the full model. 1: as gone as in the retain model, or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unierase_cli.contracts import UserError

# Nats per token by which the retain model's states must hurt before a block counts as encoding the fact.
THRESHOLD = 0.05
# Nats per token below which the full model does not know a fact well enough to say anything about its erasure.
KNOWN = -2.0


@dataclass(frozen=True)
class RowDepth:
    """``known``: log-probability of the entity in the full model. ``retain`` (d1) and ``unlearned`` (d2): losses by block.

    ``score`` is None where no block encodes the fact. All in nats per token.
    """

    fact_id: str
    known: float
    retain: tuple[float, ...]
    unlearned: tuple[float, ...]
    score: float | None


@dataclass(frozen=True)
class BlockDepth:
    """Means over the ``n`` rows that a block encodes: both losses, and the share of d1 that the unlearned model lost as well.

    They are None where n is 0.
    """

    block: int
    n: int
    retain: float | None
    unlearned: float | None
    erased: float | None


@dataclass(frozen=True)
class Depth:
    """``value``: mean score of the rows that have one, None if there is none. ``failed``: ids of rows whose logits are no numbers.

    ``without_block``: rows that no block encodes. ``unknown``: rows that the full model hardly knows (they count all the same).
    """

    value: float | None
    rows: list[RowDepth]
    blocks: list[BlockDepth]
    failed: list[str]

    @property
    def scores(self) -> dict[str, float]:
        """Fact id -> score, of the rows that have one."""
        return {row.fact_id: row.score for row in self.rows if row.score is not None}

    @property
    def without_block(self) -> int:
        return sum(row.score is None for row in self.rows)

    @property
    def unknown(self) -> int:
        return sum(row.known < KNOWN for row in self.rows)


def depth_of(
    fact_ids: Sequence[str], full: Tensor, retain: Tensor, unlearned: Tensor, *, threshold: float = THRESHOLD
) -> Depth:
    """Depth from log-probabilities: ``full`` [R] or [R, L] of the full model, ``retain`` and ``unlearned`` [R, L] with the other
    models' states.

    Raises UserError for a negative threshold, ValueError if the shapes do not fit.
    """
    if threshold < 0:
        raise UserError(f"a threshold of {threshold:g} nats is negative", f"take 0 or more, such as {THRESHOLD}")
    before = full if full.dim() == 2 else full[:, None].expand_as(retain)
    if not before.shape == retain.shape == unlearned.shape == (len(fact_ids), retain.shape[1]):
        raise ValueError(f"scores of shapes {tuple(before.shape)}, {tuple(retain.shape)} and {tuple(unlearned.shape)}")
    rows, failed = [], []
    for index, fact_id in enumerate(fact_ids):
        lost = [(before[index] - after[index]).double().tolist() for after in (retain, unlearned)]
        if not all(map(math.isfinite, (*lost[0], *lost[1]))):
            failed.append(fact_id)
            continue
        known = float(before[index, -1])
        rows.append(RowDepth(fact_id, known, tuple(lost[0]), tuple(lost[1]), _score(lost[0], lost[1], threshold)))
    scores = [row.score for row in rows if row.score is not None]
    value = math.fsum(scores) / len(scores) if scores else None
    return Depth(value, rows, [_block(rows, block, threshold) for block in range(retain.shape[1])], failed)


def erased_share(retain: float, unlearned: float) -> float:
    """d2 / d1, cut to [0, 1]: damage beyond the retain model's counts no further. ``retain`` must be positive."""
    return min(max(unlearned / retain, 0.0), 1.0)


def _score(retain: Sequence[float], unlearned: Sequence[float], threshold: float) -> float | None:
    encoding = [(first, second) for first, second in zip(retain, unlearned, strict=True) if first > threshold]
    if not encoding:
        return None
    erased = math.fsum(first * erased_share(first, second) for first, second in encoding)
    return erased / math.fsum(first for first, _ in encoding)


def _block(rows: Sequence[RowDepth], block: int, threshold: float) -> BlockDepth:
    pairs = [(row.retain[block], row.unlearned[block]) for row in rows if row.retain[block] > threshold]
    if not pairs:
        return BlockDepth(block, 0, None, None, None)
    first, second, erased = (
        math.fsum(values) / len(pairs) for values in zip(*((a, b, erased_share(a, b)) for a, b in pairs), strict=True)
    )
    return BlockDepth(block, len(pairs), first, second, erased)
