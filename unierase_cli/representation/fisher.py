"""Masked Fisher information as a depth score: are the weights that held the facts as flat as in the full model?

A model that has memorised a fact has a small gradient on it. In the weights where the retain model's squared gradients exceed the
full model's most, the score is how far the unlearned model's have risen (spec: depth, section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.erasure import BlockErasure, clipped
from unierase_cli.representation.rows import EntityRow
from unierase_cli.representation.states import Advance

# Share of a block's weights that the mask keeps; published with 1e-4, 1e-3 and 1e-2.
SHARE = 0.01
EPSILON = 1e-8


def block_fisher(loaded: LoadedModel, rows: Sequence[EntityRow], *, advance: Advance | None = None) -> list[Tensor]:
    """Diagonal Fisher information of each block: mean over rows of the squared gradient of the entity's mean loss.

    Flat float32 on the CPU, one entry per weight, weights in the block's own order: as large as the blocks themselves. Raises
    ValueError for no rows.
    """
    if not rows:
        raise ValueError("there are no rows to take gradients of")
    blocks = [list(block.parameters()) for block in loaded.architecture.blocks]
    asked = [(p, p.requires_grad) for block in blocks for p in block]
    sums = [[torch.zeros_like(p, dtype=torch.float32) for p in block] for block in blocks]
    with ExitStack() as stack:
        for parameter, before in asked:
            parameter.requires_grad_(True)
            stack.callback(partial(parameter.requires_grad_, before))
        for row in rows:
            with torch.enable_grad():
                gradients = iter(torch.autograd.grad(_loss(loaded, row), [p for p, _ in asked], allow_unused=True))
            for block in sums:
                for total, gradient in zip(block, gradients, strict=False):
                    if gradient is not None:
                        total.addcmul_(gradient.float(), gradient.float())
            if advance is not None:
                advance(1)
    return [torch.cat([total.flatten().cpu() for total in block]) / len(rows) for block in sums]


def fisher_erasure(
    full: Sequence[Tensor], retain: Sequence[Tensor], unlearned: Sequence[Tensor], *, share: float = SHARE
) -> list[BlockErasure]:
    """Per block 1 - clip(x_u / x_f), with x the mean of F_r - F over the mask of the largest ``share`` of F_r - F_f.

    The weight is x_f; a block with x_f of at most 1e-8 counts as erased, with next to no weight. Raises UserError for models of
    other shapes, and for a ``share`` that is none.
    """
    if not 0 < share <= 1:
        raise UserError(f"a share of {share:g} of the weights", f"take one above 0 and up to 1, such as {SHARE:g}")
    if not [len(f) for f in full] == [len(r) for r in retain] == [len(u) for u in unlearned]:
        raise UserError(
            "the blocks of the models have different numbers of weights", "compare models of one architecture"
        )
    blocks = []
    for layer, (f, r, u) in enumerate(zip(full, retain, unlearned, strict=True)):
        excess = (r - f).clamp(min=0)
        mask = excess.topk(max(1, int(share * excess.numel()))).indices
        before, after = (float((r[mask].double() - own[mask].double()).mean()) for own in (f, u))
        erasure = 1.0 if before <= EPSILON else 1 - clipped(after / (before + EPSILON))
        blocks.append(BlockErasure(layer, before, after, erasure, max(before, 0.0)))
    return blocks


def _loss(loaded: LoadedModel, row: EntityRow) -> Tensor:
    """Mean loss of one row's entity tokens, nats."""
    ids = torch.tensor([row.ids[: row.stop - 1]], device=loaded.device)
    hidden = loaded.architecture.backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    logits = loaded.architecture.logits(hidden.last_hidden_state[0, row.start - 1 :]).float()
    return functional.cross_entropy(logits, torch.tensor(row.labels, device=logits.device))
