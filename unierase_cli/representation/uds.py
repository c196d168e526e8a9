"""UDS, the unlearning depth score: what the full model still says with another model's hidden states in one block.

After arXiv 2605.24614 (spec: depth, section 5). Never read it without utility: a destroyed model scores high. A fact may be
readable here and yet not be said, since the prefix gives a part of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.depth import THRESHOLD, Depth, depth_of
from unierase_cli.representation.rows import EntityRow
from unierase_cli.representation.states import BATCH_TOKENS, Advance, States, patched_scores, plain_scores


def unlearning_depth(
    full: LoadedModel,
    rows: Sequence[EntityRow],
    retain: States,
    unlearned: States,
    *,
    threshold: float = THRESHOLD,
    batch_tokens: int = BATCH_TOKENS,
    advance: Advance | None = None,
) -> Depth:
    """UDS of rows from the states of the retain model and of the unlearned one (``states.read_states``, rows in the same order).

    ``advance`` is called with numbers of rows, three times for each row. Raises UserError for models of different shapes.
    """
    before = plain_scores(full, rows, batch_tokens=batch_tokens, advance=advance)
    without, after = (
        patched_scores(full, rows, states, batch_tokens=batch_tokens, advance=advance) for states in (retain, unlearned)
    )
    return depth_of([row.fact_id for row in rows], before, without, after, threshold=threshold)


def check_sanity(of_full: Depth, of_retain: Depth, tolerance: float = 1e-3) -> None:
    """Raise UserError unless the full model scores 0 and the retain model 1: else the score says nothing about a third model.

    ``tolerance`` is for devices that do not give equal bits for equal inputs.
    """
    for depth, wanted, name in ((of_full, 0.0, "full"), (of_retain, 1.0, "retain")):
        if depth.value is not None and abs(depth.value - wanted) > tolerance:
            raise UserError(
                f"the {name} model's own UDS is {depth.value:.4f}, not {wanted:.0f}",
                "compare models of one architecture, with model.dtype=float32",
            )
