"""Sequences for gradient methods: prompt and answer as ids, and batches of them with labels and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """One sequence. ``ids[answer_start:]`` is the answer; ``ends``: whether its end token is present; ``cut``: whether a limit
    truncated it.

    ``weights``: one per answer token; None: all 1.
    """

    ids: tuple[int, ...]
    answer_start: int
    ends: bool = True
    weights: tuple[float, ...] | None = None
    cut: bool = False


def make_row(
    prompt_ids: Sequence[int],
    answer_ids: Sequence[int],
    max_length: int = 0,
    weights: Sequence[float] | None = None,
    *,
    ends: bool = True,
) -> Row:
    """Prompt and answer, truncated on the right to ``max_length`` tokens (0: not at all).

    ``ends``: whether the answer's last id is its end token.
    """
    whole = (*prompt_ids, *answer_ids)
    ids = whole[:max_length] if max_length else whole
    kept = None if weights is None else tuple(weights[: max(0, len(ids) - len(prompt_ids))])
    cut = len(ids) < len(whole)
    return Row(ids, min(len(prompt_ids), len(ids)), ends and not cut, kept, cut)


@dataclass(frozen=True)
class Layout:
    """How rows are laid out in a batch.

    ``pad_to``: minimum length of every batch (0: its longest row). ``hide_end``: the end token is predicted but masked as an
    input, as in code that uses one token for padding and end (closer-look, open-unlearning). ``label_all``: every position is
    labelled, prompt and padding included (closer-look's ``mask=false``). ``pad_id``: replaces the padding token (closer-look
    pads with the end token).
    """

    pad_to: int = 0
    hide_end: bool = False
    label_all: bool = False
    pad_id: int | None = None


@dataclass(frozen=True)
class RowBatch:
    """``ids``, ``mask``, ``labels`` [B, L] (IGNORED at unlabelled positions), ``weights`` [B, L] of the labelled tokens.

    Position t is predicted at t - 1, so a label at position 0 does not count.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    weights: Tensor

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Row and position [N] of every label that counts."""
        rows, columns = (self.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        return rows, columns + 1

    @cached_property
    def targets(self) -> Tensor:
        """The labelled tokens [N]."""
        return self.labels[self.places]

    @cached_property
    def token_weights(self) -> Tensor:
        """Weights of the labelled tokens [N]."""
        return self.weights[self.places]

    @cached_property
    def turn(self) -> Tensor:
        """Index of each labelled token within its row's labels, from 0 [N]."""
        counted = torch.cumsum((self.labels[:, 1:] != IGNORED).long(), dim=1) - 1
        rows, columns = self.places
        return counted[rows, columns - 1]

    def __len__(self) -> int:
        return self.ids.shape[0]


def collate(rows: Sequence[Row], pad_id: int, device: torch.device | str, layout: Layout | None = None) -> RowBatch:
    """Right-padded batch of the rows; every answer token is labelled."""
    layout = layout or Layout()
    length = max(layout.pad_to, *(len(row.ids) for row in rows))
    ids = torch.full((len(rows), length), pad_id if layout.pad_id is None else layout.pad_id)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED)
    weights = torch.zeros(len(rows), length)
    for number, row in enumerate(rows):
        size, start = len(row.ids), row.answer_start
        ids[number, :size] = torch.tensor(row.ids)
        mask[number, : size - (1 if layout.hide_end and row.ends else 0)] = 1
        labels[number, start:size] = ids[number, start:size]
        weights[number, start:size] = 1.0 if row.weights is None else torch.tensor(row.weights)
    if layout.label_all:
        labels, weights = ids.clone(), torch.ones(len(rows), length)
    return RowBatch(ids.to(device), mask.to(device), labels.to(device), weights.to(device))
