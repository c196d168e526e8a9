"""The logit lens as a depth score: each block's states read through the full model's norm and head (spec: depth, section 7).

Cheaper than UDS, for nothing is patched; it sees what a block says about the entity and not what later blocks could make of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import through_final_norm
from unierase_cli.representation.depth import THRESHOLD, Depth, depth_of
from unierase_cli.representation.rows import EntityRow
from unierase_cli.representation.states import States, row_scores

# Positions that go through the head at a time.
POSITIONS = 2048


@torch.no_grad()
def lens_scores(full: LoadedModel, rows: Sequence[EntityRow], states: States) -> Tensor:
    """Mean log-probability of every row's entity tokens, nats per token, as read from each block of ``states``, [R, L] float64.

    ``full`` gives final norm and head, whatever model the states are of; they must be raw (``read_states``'s default).
    """
    blocks = full.architecture.n_blocks
    if not rows:
        return torch.empty(0, blocks, dtype=torch.float64)
    states.check(full)
    parts = _parts(rows)
    return torch.stack(
        [torch.cat([_scores(full, rows, states, layer, p) for p in parts]) for layer in range(blocks)], dim=1
    )


def lens_depth(
    full: LoadedModel,
    rows: Sequence[EntityRow],
    of_full: States,
    of_retain: States,
    of_unlearned: States,
    *,
    threshold: float = THRESHOLD,
) -> Depth:
    """The arithmetic of UDS on what the lens reads from three models' states."""
    full_scores, retain, unlearned = (lens_scores(full, rows, states) for states in (of_full, of_retain, of_unlearned))
    return depth_of([row.fact_id for row in rows], full_scores, retain, unlearned, threshold=threshold)


def _scores(full: LoadedModel, rows: Sequence[EntityRow], states: States, layer: int, part: Sequence[int]) -> Tensor:
    weight = full.architecture.embedding.weight
    hidden = states.block(layer, part).to(weight.device, weight.dtype)
    return row_scores(full, through_final_norm(full.architecture, hidden), [rows[index] for index in part])


def _parts(rows: Sequence[EntityRow]) -> list[list[int]]:
    """Indices of rows, in order, in parts of at most ``POSITIONS`` positions (at least one row)."""
    parts: list[list[int]] = []
    filled = 0
    for index, row in enumerate(rows):
        if not parts or filled + len(row.positions) > POSITIONS:
            parts.append([])
            filled = 0
        parts[-1].append(index)
        filled += len(row.positions)
    return parts
