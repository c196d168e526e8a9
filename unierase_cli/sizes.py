"""Batch and buffer sizes, shared by the code and the memory estimate; imports no torch."""

from __future__ import annotations

# The search for z: facts per batch, and the size in bytes below which their logits (float32, with gradients) are kept.
MOST_FACTS = 64
LOGIT_BYTES = 2 << 30
# Facts are searched together on a CPU while their rows have no more tokens from the key on than this, padded.
SEARCHED_TOKENS = 1024
# Padded tokens per pass over the texts to keep or that captures keys; what more falls out of a CPU's caches.
KEY_TOKENS, CPU_TOKENS = 8192, 1024
# Padded tokens per pass that scores refusals.
REFUSAL_TOKENS = 512
# Hidden states of prompts below the block that is edited are kept up to this size; prompts beyond it are run again.
STATE_BYTES = 1 << 30
# Rows of eigenvectors cast to the solve's dtype at a time.
WIDENED_ROWS = 2048
# Prefixes of all batches in a token's training are cached up to this size; the rest are recomputed in each step.
PREFIX_BYTES = 8 << 30
# Answers that a token's refinement guards, at most, and places in them whose logits are computed together.
GUARDED, GUARDED_PLACES = 64, 256
# Positions per pass through the head: few enough for a CPU's caches, enough to read a large head seldom.
SCORED_POSITIONS = 256
# Positions allocated at a time when the KV cache grows.
CACHE_ROOM = 64
# Larger batches are no faster: a CPU is saturated, and on a GPU the longest answer delays the batch.
CPU_ROWS = 64
GPU_ROWS = 128
# Scoring given answers saturates a CPU with fewer rows, since all tokens run at once; more rows fall out of its caches.
CPU_SCORED_ROWS = 28
# Tokens of given answers per pass on a CPU.
CPU_SCORED_TOKENS = 1024
# Logits of which a CPU computes the statistics at a time: 1 MiB, which fits its second cache.
STATISTIC_VALUES = 1 << 18
# Training checkpoints that are kept.
CHECKPOINTS = 2


def pass_tokens(on_cpu: bool, wanted: int = KEY_TOKENS) -> int:
    """Padded tokens per forward pass: as wanted, on a CPU at most ``CPU_TOKENS``."""
    return min(wanted, CPU_TOKENS) if on_cpu else wanted


def default_layers(blocks: int) -> list[int]:
    """Default blocks to edit: 5 from 0.12 L, or 3 from 0.15 L where L <= 16, since editing 4-8 of 16 collapsed."""
    count, start = (3, round(0.15 * blocks)) if blocks <= 16 else (5, round(0.12 * blocks))
    # At least one block above the edited ones must turn the value into the answer.
    return list(range(start, max(min(start + count, blocks - 1), start + 1)))
