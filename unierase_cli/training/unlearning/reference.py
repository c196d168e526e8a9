"""The model before unlearning, as the loss terms need it: outputs stored once, or a second forward pass.

What terms ask for (Term.REFERENCE): ``row_sums`` needs one number per answer token and is always stored; ``logits`` and
``blocks`` are stored if they fit; ``all_logits`` (every position of a padded batch) always needs a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from unierase_cli.config.checks import reference_fits
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.unlearning.rows import Layout, Row, RowBatch, collate
from unierase_cli.training.unlearning.views import FrozenView, Reference, View

CHUNK = 16
NOT_STORED = "a loss over every position needs a reference model at hand"


@dataclass
class Kept:
    """Stored outputs of one row: ``nll`` [n], ``logits`` [n, V], ``blocks`` layer -> [L, h] (real positions), on the CPU."""

    nll: Tensor
    logits: Tensor | None = None
    blocks: dict[int, Tensor] = field(default_factory=dict)


class StoredReference:
    """A Reference made from the stored outputs of a micro-batch's rows."""

    def __init__(self, kept: Sequence[Kept], batch: RowBatch) -> None:
        self._kept = kept
        self._batch = batch

    @property
    def row_sums(self) -> Tensor:
        nll = torch.cat([row.nll for row in self._kept]).to(self._batch.weights)
        sums = nll.new_zeros(len(self._batch))
        return sums.index_add(0, self._batch.places[0], self._batch.token_weights * nll)

    @property
    def logits(self) -> Tensor:
        found = [row.logits for row in self._kept if row.logits is not None]
        if len(found) < len(self._kept):
            raise ValueError("the reference's logits were not kept: the term must declare them in REFERENCE")
        return torch.cat(found).to(self._batch.weights)

    @property
    def all_logits(self) -> Tensor:
        raise ValueError("logits of every position are not kept")

    def block_output(self, layer: int) -> Tensor:
        found = [row.blocks[layer] for row in self._kept]
        out = found[0].new_zeros(len(found), self._batch.ids.shape[1], found[0].shape[1])
        for number, values in enumerate(found):
            out[number, : len(values)] = values
        return out.to(self._batch.weights)


class References:
    """Provides every micro-batch with its Reference.

    ``needs``: kind of row -> what terms declare. ``frozen``: a context in which ``other`` is the model before unlearning (the
    adapter switched off, or a second model), for outputs that are not stored; None if all are stored.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        needs: Mapping[str, set[str]],
        layout: Callable[[str], Layout],
        blocks: tuple[int, ...] = (),
        other: LoadedModel | None = None,
        frozen: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.loaded, self.needs, self.layout, self.blocks = loaded, needs, layout, blocks
        self.other, self.frozen = other, frozen
        self._kept: dict[tuple[str, Row], Kept] = {}

    @torch.no_grad()
    def keep(self, rows: Mapping[str, Sequence[Row]], limit_gib: float, reporter: Reporter) -> None:
        """Compute and store outputs of the current model. Raises UserError if they take more than the limit."""
        wanted = {kind: list(dict.fromkeys(found)) for kind, found in rows.items() if self._stores(kind)}
        self._check_size(wanted, limit_gib)
        total = sum(len(found) for found in wanted.values())
        if not total:
            return
        with reporter.progress("reference", total) as advance:
            for kind, found in wanted.items():
                found.sort(key=lambda row: len(row.ids))
                for start in range(0, len(found), CHUNK):
                    chunk = found[start : start + CHUNK]
                    for part, _ in self.loaded.room.parts("rows of the reference", chunk, partial(self._keep, kind)):
                        advance(len(part))

    def of(self, kind: str, rows: Sequence[Row], batch: RowBatch) -> Reference | None:
        """The Reference of a micro-batch; None for a kind that no term compares with a reference."""
        if not self.needs.get(kind):
            return None
        if self._stores(kind):
            return StoredReference([self._kept[kind, row] for row in rows], batch)
        assert self.frozen is not None
        assert self.other is not None
        return _Switched(FrozenView(self.other, batch, captured=self.blocks), self.frozen)

    def _stores(self, kind: str) -> bool:
        needs = self.needs.get(kind, set())
        return bool(needs) and (self.frozen is None or needs == {"row_sums"})

    def _keep(self, kind: str, rows: Sequence[Row]) -> None:
        needs = self.needs[kind]
        batch = collate(rows, self.loaded.prompts.pad_id, self.loaded.device, self.layout(kind))
        view = View(self.loaded, batch, captured=self.blocks if "blocks" in needs else ())
        counts = torch.bincount(batch.places[0], minlength=len(rows)).tolist()
        nll = view.nll.cpu().split(counts)
        logits = view.logits.cpu().split(counts) if "logits" in needs else [None] * len(rows)
        outputs = {n: view.block_output(n).cpu() for n in self.blocks} if "blocks" in needs else {}
        for number, row in enumerate(rows):
            # Cloned, because a view would keep the whole batch alive.
            kept, blocks = logits[number], {n: out[number, : len(row.ids)].clone() for n, out in outputs.items()}
            self._kept[kind, row] = Kept(nll[number].clone(), None if kept is None else kept.clone(), blocks)

    def _check_size(self, wanted: Mapping[str, Sequence[Row]], limit_gib: float) -> None:
        if any("all_logits" in self.needs[kind] for kind in wanted):
            raise UserError(NOT_STORED, "add unlearn.reference=second_model, or adapter=lora")
        size = sum(self._bytes(kind, row) for kind, rows in wanted.items() for row in rows) / 2**30
        reference_fits(size, limit_gib, f"on {sum(map(len, wanted.values()))} rows")

    def _bytes(self, kind: str, row: Row) -> int:
        """Bytes stored per row besides one number per answer token: float32 logits at labels, block outputs at all positions."""
        needs, (vocabulary, hidden) = self.needs[kind], self.loaded.architecture.head.weight.shape
        layout = self.layout(kind)
        labelled = max(layout.pad_to, len(row.ids)) if layout.label_all else len(row.ids) - row.answer_start
        logits = labelled * vocabulary if "logits" in needs else 0
        blocks = len(row.ids) * hidden * len(self.blocks) if "blocks" in needs else 0
        return 4 * (logits + blocks)


class _Switched:
    """A frozen view whose forward passes run inside a context (the adapter switched off)."""

    def __init__(self, view: View, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._view, self._context = view, context

    @property
    def row_sums(self) -> Tensor:
        with self._context():
            return self._view.row_sums

    @property
    def logits(self) -> Tensor:
        with self._context():
            return self._view.logits

    @property
    def all_logits(self) -> Tensor:
        with self._context():
            return self._view.all_logits

    def block_output(self, layer: int) -> Tensor:
        with self._context():
            return self._view.block_output(layer)
