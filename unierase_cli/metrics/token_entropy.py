"""Token entropy of the generated text: 1 if no token repeats, near 0 for a repetitive answer (spec: metrics, section 3, TE)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split

NAME = "token_entropy"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "token entropy", VERSION, HIGHER_IS_BETTER)


def compute(
    observations: Sequence[Observation],
    special_ids: Collection[int] = (),
    tokens: Sequence[Sequence[Hashable]] | None = None,
) -> Measure:
    """Mean normalised entropy of the generated tokens without ``special_ids``.

    ``tokens``: tokens of the texts, if a tokenizer is available. Closer-look tokenizes the decoded text again, which differs from
    the generated tokens only if a model spells a word in an unusual way.
    """
    special = set(special_ids)
    if tokens is None:
        tokens = [[token for token in o.generated_ids if token not in special] for o in observations]
    return mean_result(ABOUT, [token_entropy(row) for row in tokens])


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, lambda rows: compute(rows, evidence.special_ids))


def token_entropy(tokens: Sequence[Hashable]) -> float:
    """Entropy of the token frequencies in bits, divided by log2(number of tokens); 0 for at most one token."""
    if len(tokens) <= 1:
        return 0.0
    return entropy_bits(tokens) / math.log2(len(tokens))


def entropy_bits(tokens: Sequence[Hashable]) -> float:
    """Entropy of the token frequencies, in bits."""
    total = len(tokens)
    return math.fsum(-count / total * math.log2(count / total) for count in Counter(tokens).values())
