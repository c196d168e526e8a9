"""What a loss term gets for one kind of row: the trained model's outputs, computed lazily and only where needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unierase_cli.models.load import LoadedModel
from unierase_cli.training.unlearning.rows import RowBatch


class Reference(Protocol):
    """The model before unlearning, on the same batch; its outputs carry no gradients.

    ``row_sums`` [B]; ``logits`` [N, V]; ``all_logits`` [B, L, V]; ``block_output(layer)`` [B, L, h]. A stored reference holds
    only what the run's terms declare (Term.REFERENCE) and raises for the rest.
    """

    @property
    def row_sums(self) -> Tensor: ...
    @property
    def logits(self) -> Tensor: ...
    @property
    def all_logits(self) -> Tensor: ...
    def block_output(self, layer: int) -> Tensor: ...


class View:
    """A model's outputs for one kind of row in a micro-batch, with N labelled tokens in B rows of length L.

    One forward pass serves all requests; the head runs only on labelled positions unless ``all_logits`` is used.
    ``captured``: blocks whose outputs a term will read.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        batch: RowBatch,
        reference: Reference | None = None,
        captured: tuple[int, ...] = (),
    ) -> None:
        self.loaded = loaded
        self.batch = batch
        self._reference = reference
        self._captured = captured
        self._outputs: dict[int, Tensor] = {}

    @property
    def reference(self) -> Reference:
        """The model before unlearning on this batch."""
        if self._reference is None:
            raise ValueError("the term must declare in REFERENCE what it needs of the reference model")
        return self._reference

    @cached_property
    def hidden(self) -> Tensor:
        """Hidden states after the final norm [B, L, h]."""
        return self._run(self.batch)

    @cached_property
    def logits(self) -> Tensor:
        """Logits [N, V], float32, each at the position before its label."""
        rows, columns = self.batch.places
        return self.loaded.architecture.logits(self.hidden[rows, columns - 1]).float()

    @cached_property
    def logits_at_labels(self) -> Tensor:
        """Logits [N', V], float32, at the labelled positions themselves (unshifted), including a label at position 0."""
        return self.loaded.architecture.logits(self.hidden[self.batch.labels >= 0]).float()

    @cached_property
    def all_logits(self) -> Tensor:
        """Logits of every position [B, L, V], float32."""
        return self.loaded.architecture.logits(self.hidden).float()

    @cached_property
    def nll(self) -> Tensor:
        """-log p(label) [N], nats."""
        return cross_entropy(self.logits, self.batch.targets, reduction="none")

    @cached_property
    def row_sums(self) -> Tensor:
        """Weighted sum of ``nll`` over each row's labelled tokens [B]: S(b) of the specification."""
        return self.per_row(self.batch.token_weights * self.nll)

    def per_row(self, values: Tensor) -> Tensor:
        """Values [N] of tokens summed per row [B]."""
        return values.new_zeros(len(self.batch)).index_add(0, self.batch.places[0], values)

    def block_output(self, layer: int) -> Tensor:
        """Output of a block [B, L, h], float32."""
        if layer not in self._captured:
            raise ValueError(f"block {layer} is not captured: the term must name it in blocks(settings)")
        _ = self.hidden
        return self._outputs[layer].float()

    def _run(self, batch: RowBatch) -> Tensor:
        blocks = self.loaded.architecture.blocks
        hooks = [blocks[n].register_forward_hook(self._keeper(n)) for n in self._captured]
        try:
            out = self.loaded.architecture.backbone(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return out.last_hidden_state

    def _keeper(self, layer: int) -> Callable[..., None]:
        def keep(module: torch.nn.Module, args: object, output: object) -> None:
            found = output[0] if isinstance(output, tuple) else output
            assert isinstance(found, Tensor)
            self._outputs[layer] = found

        return keep


class FrozenView(View):
    """A view without gradients, for a reference model (a second model, or the adapter switched off)."""

    def __getattribute__(self, name: str) -> Any:
        with torch.no_grad():
            return super().__getattribute__(name)
