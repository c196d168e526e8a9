"""Hidden states at the positions that predict an entity: read from one model, put into another (spec: depth, section 5.2).

Sequences are padded on the right and cut in front of the last entity token, which is only predicted. Log-probabilities are taken
in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import (
    Padded,
    length_sorted_batches,
    pad_sequences,
    passing_through,
    run_lower,
    through_final_norm,
)
from unierase_cli.representation.rows import EntityRow

# Padded tokens of a batch; every block's output of a batch is held at a time.
BATCH_TOKENS = 2048
# raw: what the last block puts out. normed: the same after the final norm, which the reference code patches in by mistake.
LastBlock = Literal["raw", "normed"]
Advance = Callable[..., None]


@dataclass(frozen=True)
class States:
    """``of[row]``: outputs of every block at the row's positions, [L, n, h], on the CPU in the model's own type."""

    of: list[Tensor]

    def block(self, layer: int, rows: Sequence[int]) -> Tensor:
        """One block's states of some rows, one after the other, [N, h]."""
        return torch.cat([self.of[row][layer] for row in rows])

    def check(self, loaded: LoadedModel) -> None:
        """Raise UserError unless ``loaded`` has as many blocks of the same width."""
        blocks, _, width = self.of[0].shape
        architecture = loaded.architecture
        if (blocks, width) != (architecture.n_blocks, architecture.hidden_size):
            raise UserError(
                f"hidden states of {blocks} blocks of width {width} do not fit a model of {architecture.n_blocks} blocks of "
                f"width {architecture.hidden_size}",
                "compare models of one architecture",
            )


@torch.no_grad()
def read_states(
    loaded: LoadedModel,
    rows: Sequence[EntityRow],
    *,
    last_block: LastBlock = "raw",
    batch_tokens: int = BATCH_TOKENS,
    advance: Advance | None = None,
) -> States:
    """Outputs of every block at the rows' positions. Raises UserError for another word as ``last_block``."""
    if last_block not in get_args(LastBlock):
        raise UserError(f"there is no last_block {last_block!r}", f"take one of {', '.join(get_args(LastBlock))}")
    architecture = loaded.architecture
    found: list[Tensor | None] = [None] * len(rows)

    def read(part: Sequence[int]) -> Tensor:
        batch, at = _padded(loaded, [rows[i] for i in part])
        seen: dict[int, Tensor] = {}

        def keep(layer: int, output: Tensor) -> None:
            seen[layer] = _picked(output, at)

        blocks = range(architecture.n_blocks)
        run_lower(architecture, batch, outputs_of=blocks, on_output=keep)
        if last_block == "normed":
            seen[blocks[-1]] = through_final_norm(architecture, seen[blocks[-1]])
        return torch.stack([seen[layer].cpu() for layer in blocks])

    for part, states in _parts(loaded, rows, batch_tokens, read, advance):
        counts = [len(rows[i].positions) for i in part]
        for index, own in zip(part, states.split(counts, dim=1), strict=True):
            found[index] = own
    return States([states for states in found if states is not None])


@torch.no_grad()
def plain_scores(
    loaded: LoadedModel,
    rows: Sequence[EntityRow],
    *,
    batch_tokens: int = BATCH_TOKENS,
    advance: Advance | None = None,
) -> Tensor:
    """Mean log-probability of every row's entity tokens, nats per token, [R] float64."""
    out = torch.empty(len(rows), dtype=torch.float64)

    def score(part: Sequence[int]) -> Tensor:
        own = [rows[i] for i in part]
        batch, at = _padded(loaded, own)
        return row_scores(loaded, _picked(_final_states(loaded, batch), at), own)

    for part, scores in _parts(loaded, rows, batch_tokens, score, advance):
        out[list(part)] = scores
    return out


@torch.no_grad()
def patched_scores(
    loaded: LoadedModel,
    rows: Sequence[EntityRow],
    states: States,
    *,
    batch_tokens: int = BATCH_TOKENS,
    advance: Advance | None = None,
) -> Tensor:
    """The same with one block's output at the rows' positions replaced by ``states`` of that block, [R, L] float64.

    All other positions stay the model's own, and later blocks see the patch through attention. Only the blocks above a patch are
    run again.
    """
    if not rows:
        return torch.empty(0, loaded.architecture.n_blocks, dtype=torch.float64)
    states.check(loaded)
    out = torch.empty(len(rows), loaded.architecture.n_blocks, dtype=torch.float64)

    def score(part: Sequence[int]) -> Tensor:
        own = [rows[i] for i in part]
        batch, at = _padded(loaded, own)
        outputs: dict[int, Tensor] = {}

        def keep(layer: int, output: Tensor) -> None:
            outputs[layer] = output.clone()

        blocks = range(loaded.architecture.n_blocks)
        run_lower(loaded.architecture, batch, outputs_of=blocks, on_output=keep)
        columns = []
        for layer in blocks:
            hidden = outputs.pop(layer)
            hidden[_on(at, hidden)] = states.block(layer, part).to(hidden)
            with passing_through(loaded.architecture, range(layer), (layer, hidden)):
                columns.append(row_scores(loaded, _picked(_final_states(loaded, batch), at), own))
        return torch.stack(columns, dim=1)

    for part, scores in _parts(loaded, rows, batch_tokens, score, advance):
        out[list(part)] = scores
    return out


def row_scores(loaded: LoadedModel, hidden: Tensor, rows: Sequence[EntityRow]) -> Tensor:
    """Mean log-probability of the rows' entity tokens from the final hidden states of their positions [N, h]; [R] float64."""
    logits = loaded.architecture.logits(hidden).float()
    labels = torch.tensor([token for row in rows for token in row.labels], device=logits.device)
    chosen = torch.log_softmax(logits, dim=-1).gather(1, labels[:, None])[:, 0].double().cpu()
    return torch.stack([own.mean() for own in chosen.split([len(row.labels) for row in rows])])


def _final_states(loaded: LoadedModel, batch: Padded) -> Tensor:
    hidden: Tensor = loaded.architecture.backbone(
        input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    return hidden


def _padded(loaded: LoadedModel, rows: Sequence[EntityRow]) -> tuple[Padded, tuple[Tensor, Tensor]]:
    """A batch, and where its rows' positions are: indices of sequences and of tokens, [N] each."""
    batch = pad_sequences([row.ids[: row.stop - 1] for row in rows], loaded.prompts.pad_id, loaded.device)
    sequences = [index for index, row in enumerate(rows) for _ in row.positions]
    places = [place for row in rows for place in row.positions]
    return batch, (torch.tensor(sequences), torch.tensor(places))


def _on(at: tuple[Tensor, Tensor], hidden: Tensor) -> tuple[Tensor, Tensor]:
    return at[0].to(hidden.device), at[1].to(hidden.device)


def _picked(hidden: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    return hidden[_on(at, hidden)]


def _parts(
    loaded: LoadedModel,
    rows: Sequence[EntityRow],
    batch_tokens: int,
    call: Callable[[Sequence[int]], Tensor],
    advance: Advance | None,
) -> list[tuple[Sequence[int], Tensor]]:
    """Indices of rows in batches of similar length, each with what ``call`` makes of it."""
    done = []
    for batch in length_sorted_batches([row.stop - 1 for row in rows], batch_tokens):
        for part, result in loaded.room.parts("rows whose hidden states are read", batch, call):
            done.append((part, result))
            if advance is not None:
                advance(len(part))
    return done
