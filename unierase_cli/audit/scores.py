"""From rows to one number per fact: what a text is worth, and what several samples of a fact are worth together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb, fsum

from unierase_cli.audit.base import Row
from unierase_cli.metrics.rouge import VERSION as ROUGE_VERSION
from unierase_cli.metrics.rouge import rouge_l_recall
from unierase_cli.words import has_words

RECALL = "recall"
# Of what is computed from texts here.
VERSION = 1
VERSIONS = {"scores": VERSION, "rouge": ROUGE_VERSION}


def by_fact(rows: Iterable[Row], score: str = RECALL, best_of: int = 1) -> dict[str, float]:
    """Fact -> its score in [0, 1]: the mean over its samples, or the best of ``best_of`` that are drawn from them (unbiased).

    ``recall``: stemmed ROUGE-L recall of the true answer, or of what of it was not given; a row of which no word is left is left
    out. Any other score is the one that rows bring along. A fact with fewer samples than ``best_of`` is left out.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if score != RECALL:
            found.setdefault(row.fact, []).append(row.scores[score])
        elif has_words(row.reference):
            found.setdefault(row.fact, []).append(rouge_l_recall(row.text, row.reference))
    return {fact: best(values, best_of) for fact, values in found.items() if len(values) >= best_of}


def best(values: Sequence[float], count: int) -> float:
    """Expected largest of ``count`` values drawn without putting back from at least as many; the mean for one.

    For values that are 0 or 1: 1 - C(m - c, n) / C(m, n), the chance of a hit (Chen et al. 2021, equation 1).
    """
    ordered = sorted(values)
    if count == 1:
        return fsum(ordered) / len(ordered)
    ways = comb(len(ordered), count)
    return fsum(value * comb(place, count - 1) / ways for place, value in enumerate(ordered))
