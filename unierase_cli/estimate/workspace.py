"""Memory of passes through a decoder besides its weights: forward buffers, saved activations, logits.

Counted from widths, buffer by buffer, as the models of transformers allocate them (norm, attention, gated MLP,
residual).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from unierase_cli.estimate.shapes import Shape

# glibc serves requests below this from its heap (the largest value to which M_MMAP_THRESHOLD adapts on 64 bits). Larger
# buffers come from the system and are returned to it at once.
HEAP_LIMIT = 32 << 20
# Batches differ in shape, so freed buffers rarely fit the next batch: the heap grows to about twice what is in use.
HEAP_WASTE = 2


@dataclass(frozen=True)
class Workspace:
    """``size``: bytes of an activation; ``heap``: whether small buffers come from the C library's heap (on a CPU)."""

    shape: Shape
    size: int
    heap: bool

    def held(self, buffers: Iterable[int]) -> int:
        """Bytes taken by buffers of these sizes, all in use at once."""
        return sum(b * (HEAP_WASTE if self.heap and b < HEAP_LIMIT else 1) for b in buffers)

    def copies(self, count: float, elements: float, bytes_each: int = 4) -> int:
        """Bytes of ``count`` buffers of ``elements`` elements."""
        each = int(elements * bytes_each)
        return int(self.held([each]) * count)

    def forward(self, tokens: int) -> int:
        """Bytes of a pass without gradients over padded ``tokens``, at the peak within a block.

        In the MLP: embeddings, residual and normed input [T, h]; gate, up and their product [T, d]. In attention: the
        same three [T, h], queries before and after rotation with two products of it, keys and values.
        """
        shape = self.shape
        query, pair = shape.heads * shape.head_size, shape.key_value_heads * shape.head_size
        around = self.copies(3, tokens * shape.hidden, self.size)
        mlp = self.copies(3, tokens * shape.inner, self.size)
        attention = self.copies(4, tokens * query, self.size) + self.copies(2, tokens * pair, self.size)
        return around + max(mlp, attention)

    def kept(self, tokens: int, *, trained: bool, blocks: int | None = None) -> int:
        """Bytes of activations that ``blocks`` blocks (default: all) save for the backward pass.

        With frozen weights: inputs of two norms; queries, keys and values repeated to all heads, and attention's
        output; gate, its activation and up. With trained weights also the inputs of the linear layers and of the norms'
        products. All are in use at once, so no heap is wasted.
        """
        shape, count = self.shape, self.shape.blocks if blocks is None else blocks
        width = (6 if trained else 2) * shape.hidden + (5 if trained else 4) * shape.heads * shape.head_size
        return count * tokens * (width + (4 if trained else 3) * shape.inner) * self.size

    def attention_weights(self, rows: int, length: int) -> int:
        """Bytes saved by eager attention: scores and their softmax in float32, and in the computing type."""
        return self.shape.blocks * rows * self.shape.heads * length * length * (4 + 2 * self.size)

    def logits(self, positions: int, copies: float) -> int:
        """Bytes of ``copies`` float32 tensors of logits."""
        return self.copies(copies, positions * self.shape.vocabulary)

    def cache(self, rows: int, length: int, blocks: int | None = None) -> int:
        """Bytes of the KV cache of ``rows`` sequences."""
        count = self.shape.blocks if blocks is None else blocks
        return int(
            2 * count * self.copies(1, rows * length * self.shape.key_value_heads * self.shape.head_size, self.size)
        )
