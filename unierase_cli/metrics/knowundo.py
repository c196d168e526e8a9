"""Knowledge forgetting and retention rates after ReLearn (arXiv 2502.11190); entities are names, numbers and e-mails, by pattern.

An answer is forgotten if an entailment classifier sees a contradiction or if it covers few of the true answer's entities; it is
retained if there is no contradiction and enough are covered. Coverage: pairs of entities with a cosine of at least 0.8, divided by
the number of true ones; those that share a word with the question do not count. ReLearn lets a language model find the entities, so
these rates (``kfr_local``, ``krr_local``) are comparable among themselves only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    FORGET,
    FORGET_UNSEEN,
    About,
    Column,
    Evidence,
    column_of,
    mean_result,
    unavailable,
)
from unierase_cli.metrics.judged import unknown_label
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent
from unierase_cli.words import words

if TYPE_CHECKING:
    from regex import Pattern

NAME = "kfr_local"
VERSION = 2
HIGHER_IS_BETTER = True
BENCHMARK = "knowundo"
FORGOTTEN = About(NAME, "knowledge forgotten (local KFR)", VERSION, HIGHER_IS_BETTER)
RETAINED = About("krr_local", "knowledge retained (local KRR)", VERSION, HIGHER_IS_BETTER)
# A word with a capital letter of any script, or several of them.
_NAME = r"\p{Lu}[\w\p{M}]*(?:['’-][\w\p{M}]+)*"
ENTITY = rf"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\d[\d,./:-]*\d|\d|{_NAME}(?: (?:of |de |the )?{_NAME})*"
# Capitalised only because they begin a sentence or a line, in front of an apostrophe too ("She's").
BEGINNINGS = {
    "a", "about", "according", "after", "all", "also", "although", "among", "an", "and", "another", "any", "are", "as",
    "at", "author", "based", "because", "before", "being", "born", "both", "but", "by", "currently", "despite", "do",
    "does", "don", "during", "each", "email", "following", "for", "from", "he", "her", "here", "hers", "him", "his", "how",
    "however", "i", "if", "in", "is", "it", "its", "known", "later", "many", "most", "my", "name", "no", "not", "now", "of",
    "on", "once", "one", "or", "other", "our", "phone", "several", "she", "since", "so", "some", "such", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "though", "through", "throughout", "to",
    "under", "until", "upon", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whose", "why", "with",
    "within", "yes", "you", "your",
}  # fmt: skip
ALIKE, COVERED, FEW, COVERED_OF_FEW = 0.8, 0.3, 3, 0.5
CONTRADICTION = "contradiction"


def compute(observations: Sequence[Observation], judges: Judges | None = None) -> Measure:
    """Share of answers that no longer tell what is true (rows to forget)."""
    judged = _judged(FORGOTTEN, observations, [(o.text, o.reference) for o in observations], judges)
    if isinstance(judged, Measure):
        return judged
    labels, covered = judged
    limits = [COVERED_OF_FEW if len(entities(o.reference, o.question)) <= FEW else COVERED for o in observations]
    gone = [label == CONTRADICTION or m <= limit for label, m, limit in zip(labels, covered, limits, strict=True)]
    return mean_result(FORGOTTEN, [float(value) for value in gone])


def retained(observations: Sequence[Observation], judges: Judges | None = None) -> Measure:
    """Share of answers that still tell what is true (rows to keep)."""
    judged = _judged(RETAINED, observations, [(o.reference, o.text) for o in observations], judges)
    if isinstance(judged, Measure):
        return judged
    labels, covered = judged
    return mean_result(RETAINED, [float(label != CONTRADICTION and m >= COVERED) for label, m in zip(labels, covered, strict=True)])


def _judged(
    about: About, observations: Sequence[Observation], pairs: Sequence[tuple[str, str]], judges: Judges | None
) -> Measure | tuple[list[str], list[float]]:
    """The classifier's label of each pair and each answer's coverage; a measure that says why there are none."""
    asked = judges or Judges()
    try:
        labels, covered = asked.classify(pairs), [coverage(o, asked) for o in observations]
    except JudgeAbsent as absent:
        return unavailable(about, str(absent))
    return unknown_label(about, labels) or (labels, covered)


def columns(evidence: Evidence) -> Iterable[Column]:
    """No columns for other benchmarks."""
    if evidence.benchmark != BENCHMARK:
        return
    for split in evidence.splits():
        about, rate = (FORGOTTEN, compute) if split in (FORGET, FORGET_UNSEEN) else (RETAINED, retained)
        yield column_of(evidence, about, partial(rate, judges=evidence.judges), split)


def coverage(o: Observation, judges: Judges) -> float:
    """Pairs of alike entities of the answer and of the true one, per true entity; 0 if either has none."""
    said, true = entities(o.text, o.question), entities(o.reference, o.question)
    if not said or not true:
        return 0.0
    return float((judges.encode(said) @ judges.encode(true).T >= ALIKE).sum()) / len(true)


def entities(text: str, question: str) -> list[str]:
    """Names, numbers and e-mail addresses without a word of the question, in their order."""
    known = set(words(question))
    found = dict.fromkeys(_without_beginning(match.strip(" .,")) for match in _pattern().findall(text))
    return [entity for entity in found if entity and not known & set(words(entity))]


def _without_beginning(entity: str) -> str:
    while entity and re.split("['’]", entity.partition(" ")[0].lower())[0] in BEGINNINGS:
        entity = entity.partition(" ")[2]
    return entity


@cache
def _pattern() -> Pattern[str]:
    import regex

    return regex.compile(ENTITY)
