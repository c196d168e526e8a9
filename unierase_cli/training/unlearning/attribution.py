"""Weights of answer tokens from how much of a fact each carries, after token-level attribution (arXiv 2605.00364).

The paper's public text gives two signals, masking and entropy, and two ways to use them, soft weights and hard selection. How
they are computed and mixed is ours: masking puts neutral words in the subject's place; what falls below 0, and names that the
answer copies from the question, count as 0; the entropy is that of the masked question, where a model that knows the facts by
heart is no longer sure of those tokens that only the subject decides; each signal is divided by its mean over the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unierase_cli.config.sections.attribute import AttributeConfig

MASKED_ENDING = "?"


def masked_question(question: str, subject: str | None, mask: str) -> tuple[str, bool]:
    """The question with ``mask`` for every mention of the subject, and whether there was one; else the mask in its whole place."""
    if subject and subject in question:
        return question.replace(subject, mask), True
    return mask + MASKED_ENDING, False


def copied(answer: str, subject: str | None) -> list[tuple[int, int]]:
    """Characters [begin, end) of the answer that repeat the subject of the question."""
    found: list[tuple[int, int]] = []
    begin = answer.find(subject) if subject else -1
    while subject and begin >= 0:
        found.append((begin, begin + len(subject)))
        begin = answer.find(subject, begin + len(subject))
    return found


def token_weights(falls: Sequence[float], entropies: Sequence[float], config: AttributeConfig) -> list[float]:
    """Weights with mean 1 of an answer's tokens.

    ``falls``: log p(token) less log p(token) with the subject masked, nats. ``entropies``: of the masked distribution, nats.
    """
    signals = [([max(0.0, fall) for fall in falls], 1 - config.entropy), (list(entropies), config.entropy)]
    used = [(values, share) for values, share in signals if share and sum(values) > 0]
    count = len(falls)
    if not used:
        return [1.0] * count
    whole = sum(share for _, share in used)
    importance = [sum(share / whole * values[n] * count / sum(values) for values, share in used) for n in range(count)]
    if config.select == "hard":
        kept = max(1, math.ceil(config.top * count))
        best = set(sorted(range(count), key=lambda n: (-importance[n], n))[:kept])
        return [count / kept if n in best else 0.0 for n in range(count)]
    return [config.least + (1 - config.least) * value for value in importance]
