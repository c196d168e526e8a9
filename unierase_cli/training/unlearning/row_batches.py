"""The loss of a token-training batch and its gradients, in as many pieces as memory requires (spec 1.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import Padded, pad_sequences
from unierase_cli.store.refusals import is_out_of_memory
from unierase_cli.training.token.pairs import TokenExample
from unierase_cli.training.token.prefix import Prefix, Prefixes, run_suffix
from unierase_cli.training.unlearning.losses import refusal_loss, row_logits

# Purpose under which models.room tracks the batch size.
PURPOSE = "questions of the token's training"


@dataclass
class Leaves:
    """The trained rows: one leaf [h] per token and role, float32.

    ``rows_out`` is None if the head's own rows are used unchanged, and is ``rows_in`` itself if one row has both roles (both
    then contribute gradients). ``hold``: also train [UNL] as the token after the prefix, so that a row with both roles on an
    edited model stays the first answer token. ``kept``: orthonormal directions [r, h] along which the rows do not change.
    ``guard``: a further loss, of the output rows [g, h].
    """

    ids: list[int]
    rows_in: list[Tensor]
    rows_out: list[Tensor] | None = None
    hold: bool = False
    kept: Tensor | None = None
    guard: Callable[[Tensor], Tensor] | None = None

    @property
    def parameters(self) -> list[Tensor]:
        own = self.rows_out is not None and self.rows_out is not self.rows_in
        return [*self.rows_in, *(self.rows_out or [])] if own else list(self.rows_in)


class Batch:
    """Some examples as tensors, padded to the longest. ``labels`` [n] belong to the suffixes' real positions, row by row."""

    def __init__(self, loaded: LoadedModel, examples: Sequence[TokenExample], ids: Sequence[int]) -> None:
        self.examples = examples
        self.prefixes = [e.prefix for e in examples]
        self.suffix: Padded = pad_sequences([e.suffix for e in examples], loaded.prompts.pad_id, loaded.device)
        self.labels = torch.tensor([label for e in examples for label in e.labels], device=loaded.device)
        self.tokens = torch.tensor([e.suffix[0] for e in examples], device=loaded.device)
        self.used = sorted({list(ids).index(e.suffix[0]) for e in examples})
        self.pieces = [self]

    def in_pieces(self, loaded: LoadedModel, ids: Sequence[int], size: int) -> list[Batch]:
        """The batch split into batches of at most ``size`` examples; itself if it has no more."""
        if max(len(piece.examples) for piece in self.pieces) > size:
            starts = range(0, len(self.examples), size)
            self.pieces = [Batch(loaded, self.examples[i : i + size], ids) for i in starts]
        return self.pieces


def gradients(loaded: LoadedModel, leaves: Leaves, batch: Batch, prefixes: Prefixes) -> float:
    """Add the gradients of the batch's mean loss to the leaves; returns that loss. Leaves must have no gradients before.

    If memory runs out, the batch is processed in pieces weighted by their numbers of labels, which gives the same mean.
    """
    labels = batch.labels.numel() + (len(batch.examples) if leaves.hold else 0)
    while True:
        size = loaded.room.size(PURPOSE, len(batch.examples))
        try:
            value = 0.0
            for piece in batch.in_pieces(loaded, leaves.ids, size):
                loss = batch_loss(loaded, leaves, piece, prefixes.of(piece.prefixes))
                own = piece.labels.numel() + (len(piece.examples) if leaves.hold else 0)
                loss = loss if own == labels else loss * (own / labels)
                value += loss.item()
                loss.backward()
            return value
        except Exception as error:
            if not is_out_of_memory(error) or size <= 1:
                raise
        for leaf in leaves.parameters:
            leaf.grad = None
        prefixes.forget()
        loaded.room.halve(PURPOSE, size)


def batch_loss(loaded: LoadedModel, leaves: Leaves, batch: Batch, prefix: Prefix) -> Tensor:
    """Mean loss of a batch, with the leaves in place of [UNL]'s rows; only labelled positions go through the head."""
    architecture = loaded.architecture
    embeddings = architecture.embedding(batch.suffix.ids)
    # Some families (Gemma) scale the embedding's output by a factor rounded to the model's dtype.
    scale = torch.as_tensor(getattr(architecture.embedding, "embed_scale", 1.0)).to(architecture.embedding.weight)
    rows_in = (torch.stack(leaves.rows_in) * scale).to(embeddings)
    for slot, token in enumerate(leaves.ids):
        places = (batch.suffix.ids == token).nonzero(as_tuple=True)
        if len(places[0]):
            embeddings = embeddings.index_put(places, rows_in[slot].expand(len(places[0]), -1))
    hidden = run_suffix(architecture, prefix, batch.suffix, embeddings)
    hidden = hidden[batch.suffix.mask.bool().to(hidden.device)]
    labels = batch.labels
    if leaves.hold:
        hidden, labels = torch.cat([hidden, prefix.last]), torch.cat([labels, batch.tokens])
    rows_out = None if leaves.rows_out is None else torch.stack(leaves.rows_out)
    ids = torch.tensor(leaves.ids, device=hidden.device)
    return refusal_loss(row_logits(architecture, hidden, ids, rows_out), labels)
