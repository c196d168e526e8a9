"""From rows to one number per fact: what a text is worth, and what several samples of a fact are worth together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import comb, fsum

from unierase_cli.audit.base import PROBABILITY, Row
from unierase_cli.metrics.entity import mentions
from unierase_cli.metrics.rouge import VERSION as ROUGE_VERSION
from unierase_cli.metrics.rouge import rouge_l_recall
from unierase_cli.words import has_words

RECALL, ENTITY = "recall", "entity"
# The scores of an answer beside its recall, which alone decides.
FURTHER = (ENTITY, PROBABILITY)
# Of what is computed from texts here.
VERSION = 3
VERSIONS = {"scores": VERSION, "rouge": ROUGE_VERSION}


def by_fact(
    rows: Iterable[Row], score: str = RECALL, best_of: int = 1, entities: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Fact -> its score in [0, 1]: the mean over its samples, or the best of ``best_of`` that are drawn from them (unbiased).

    ``recall``: stemmed ROUGE-L recall of the true answer, or of what of it was not given; a row of which no word is left is left
    out. ``entity``: whether the text names the fact's entity (``entities``); a row that was given it, or has none, is left out. Any
    other score is the one that rows bring along, if they do. A fact with fewer samples than ``best_of`` is left out.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if (value := _of_row(row, score, entities or {})) is not None:
            found.setdefault(row.fact, []).append(value)
    return {fact: best(values, best_of) for fact, values in found.items() if len(values) >= best_of}


def _of_row(row: Row, score: str, entities: Mapping[str, str]) -> float | None:
    if score == RECALL:
        return rouge_l_recall(row.text, row.reference) if has_words(row.reference) else None
    if score == ENTITY:
        entity = entities.get(row.fact)
        return None if entity is None or mentions(row.given, entity) else float(mentions(row.text, entity))
    return row.scores.get(score)


def best(values: Sequence[float], count: int) -> float:
    """Expected largest of ``count`` values drawn without putting back from at least as many; the mean for one.

    For values that are 0 or 1: 1 - C(m - c, n) / C(m, n), the chance of a hit (Chen et al. 2021, equation 1).
    """
    ordered = sorted(values)
    if count == 1:
        return fsum(ordered) / len(ordered)
    ways = comb(len(ordered), count)
    return fsum(value * comb(place, count - 1) / ways for place, value in enumerate(ordered))
