"""The training loop's objective from a forget and a retain term: micro-batches, weights over the whole step, references."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.unlearning.plan import Item
from unierase_cli.training.unlearning.reference import References
from unierase_cli.training.unlearning.rows import Layout, Row, RowBatch, collate
from unierase_cli.training.unlearning.views import View

# Purpose under which models.room tracks the micro-batch size.
PURPOSE = "rows of a training step"


@dataclass(frozen=True)
class BoundTerm:
    """A loss term with its settings, in the form that the objective uses.

    ``kinds``: kinds of rows that it reads; units are counted on the first. ``weigh(batch)``: weights of its units.
    ``loss(views, total)``: its weighted sum over ``total``. ``after_step(state, parts, epoch)``: updates coefficients.
    ``unit``: what is weighted (token, row, position). ``batch_wide``: a row's value depends on the other rows of its batch.
    """

    role: str
    kinds: tuple[str, ...]
    weigh: Callable[[RowBatch], Tensor]
    loss: Callable[[Mapping[str, View], float], Tensor]
    blocks: tuple[int, ...] = ()
    after_step: Callable[[dict[str, float], dict[str, float], int], dict[str, float]] | None = None
    unit: str = "token"
    batch_wide: bool = False


class TermsObjective:
    """Minimises the sum over roles of ``state[role]`` times the role's term.

    ``rows(kind, item)`` returns the sequence of a plan's item. Every term is a mean over the units of the whole step, across
    micro-batches and processes. With ``config.weighting=micro_batches`` it is the mean of the micro-batches' means, which gives
    more weight to tokens in micro-batches with short answers. ``retain_kind``: rows whose mean negative log-probability is
    monitored.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        terms: Sequence[BoundTerm],
        weights: Mapping[str, float],
        plan: Sequence[Sequence[Item]],
        rows: Callable[[str, Item], Row],
        layout: Callable[[str], Layout],
        references: References,
        config: UnlearnConfig,
        *,
        steps_per_epoch: int,
        retain_kind: str = "retain",
    ) -> None:
        self.loaded, self.terms, self.plan, self.rows = loaded, terms, plan, rows
        self.layout, self.references, self.config = layout, references, config
        self.steps_per_epoch, self.retain_kind = steps_per_epoch, retain_kind
        self.state: dict[str, float] = dict(weights)
        self.kinds = tuple(dict.fromkeys(kind for term in terms for kind in term.kinds))
        self.blocks = tuple(sorted({layer for term in terms for layer in term.blocks}))
        self._size = 0
        self.worst = config.stop_retain_loss or math.log(loaded.architecture.head.weight.shape[0])

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        own = processes.share(self.plan[step])
        size = self.loaded.room.size(PURPOSE, self.config.micro_batch or max(1, len(own)))
        self._size = min(size, len(own))
        micro = [self._batches(own[start : start + size]) for start in range(0, len(own), size)]
        totals = self._totals(micro)
        for number, (rows, batches) in enumerate(micro):
            views = {kind: self._view(kind, rows[kind], batches[kind]) for kind in self.kinds}
            losses = {term.role: term.loss(views, totals[term.role][number]) for term in self.terms}
            loss = sum((self.state[role] * value for role, value in losses.items()), start=torch.zeros(()))
            parts = {"loss": loss.item(), **{role: value.item() for role, value in losses.items()}}
            if self.retain_kind in views:
                view = views[self.retain_kind]
                with torch.no_grad():
                    parts["retain_nll"] = float(view.nll.sum()) / totals["retain_nll"][number]
            yield loss, parts

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        for term in self.terms:
            if term.after_step is not None:
                self.state = term.after_step(self.state, parts, step // self.steps_per_epoch)
        found = parts.get("retain_nll", 0.0)
        if found > self.worst:
            return f"the retain loss is {found:.2f} nats per token, worse than {self.worst:.2f}"
        return None

    def shrink(self) -> bool:
        """Halve the micro-batches, unless that would change the result.

        It would with a mean of micro-batch means, with dropout, which would be drawn again, and with losses that depend on the
        padding or on other rows of the batch.
        """
        same = self.config.weighting == "tokens" and not drops(self.loaded.model)
        return same and not any(map(self._hangs_together, self.terms)) and self.loaded.room.halve(PURPOSE, self._size)

    def _hangs_together(self, term: BoundTerm) -> bool:
        layouts = [self.layout(kind) for kind in term.kinds]
        return term.batch_wide or any(not x.pad_to and (x.label_all or term.unit == "position") for x in layouts)

    def _batches(self, items: Sequence[Item]) -> tuple[dict[str, list[Row]], dict[str, RowBatch]]:
        rows = {kind: [self.rows(kind, item) for item in items] for kind in self.kinds}
        pad, device = self.loaded.prompts.pad_id, self.loaded.device
        return rows, {kind: collate(found, pad, device, self.layout(kind)) for kind, found in rows.items()}

    def _view(self, kind: str, rows: Sequence[Row], batch: RowBatch) -> View:
        reference = self.references.of(kind, rows, batch)
        return View(self.loaded, batch, reference, captured=self.blocks)

    def _totals(self, micro: Sequence[tuple[Any, dict[str, RowBatch]]]) -> dict[str, list[float]]:
        """The divisor of each micro-batch's sums, per role and for the monitored retain loss."""
        own = {term.role: [float(term.weigh(b[term.kinds[0]]).sum()) for _, b in micro] for term in self.terms}
        if self.retain_kind in self.kinds:
            own["retain_nll"] = [float(len(b[self.retain_kind].targets)) for _, b in micro]
        roles = list(own)
        sums = processes.add_up([*(sum(own[role]) for role in roles), float(len(micro))])
        totals = dict(zip(roles, sums[:-1], strict=True))
        if self.config.weighting == "micro_batches":
            return {role: [(value or 1.0) * sums[-1] for value in own[role]] for role in roles}
        return {role: [totals[role] or 1.0] * len(micro) for role in roles}


def drops(model: nn.Module) -> bool:
    """Whether training the model draws random numbers: dropout modules, or dropout of attention weights."""
    config: Any = getattr(model, "config", None)
    attention = (getattr(config, name, 0.0) or 0.0 for name in ("attention_dropout", "attn_pdrop"))
    return any(attention) or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
