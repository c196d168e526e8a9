"""Sizes of batches and buffers that the code works with and the estimate of memory counts with. No torch at import."""

from __future__ import annotations

# Searches for z: facts together, and bytes below which their logits (float32, with their gradients) are kept.
MOST_FACTS = 64
LOGIT_BYTES = 2 << 30
# Padded tokens of a pass that looks at keys, and of one that scores refusals.
KEY_TOKENS = 8192
REFUSAL_TOKENS = 512
# Rows of eigenvectors that are widened to the solve's type at a time.
WIDENED_ROWS = 2048
# Prefixes of all batches of a token's training are kept while they take less than this; those beyond are run again in each step.
PREFIX_BYTES = 8 << 30
# Positions that go through the head at a time: little enough for a CPU's caches, enough to read a large head seldom.
SCORED_POSITIONS = 256
# Positions that are set aside whenever attention's memory has to grow.
CACHE_ROOM = 64
# Beyond these a batch is no faster: a CPU is saturated, and on a GPU the longest answer of a batch holds it up.
CPU_ROWS = 64
GPU_ROWS = 128
# Given answers fill a CPU with fewer rows, since all their tokens run at once; more only leave its caches.
CPU_SCORED_ROWS = 28
# Checkpoints of a training that are kept.
CHECKPOINTS = 2


def default_layers(blocks: int) -> list[int]:
    """Blocks to edit of an unlisted model: 5 from 0.12 L; 3 from 0.15 L where L <= 16, since 4-8 of 16 collapsed."""
    count, start = (3, round(0.15 * blocks)) if blocks <= 16 else (5, round(0.12 * blocks))
    # A block above the edited ones must be left to turn the value into the answer.
    return list(range(start, max(min(start + count, blocks - 1), start + 1)))
