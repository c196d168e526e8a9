"""Does a text name an entity: whole words, whatever their case, accents' encoding, punctuation and articles (spec: audit, 2.1).

Numbers are compared as numbers (1,000 is 1000.0) and dates as dates (8th of September, 1956 is 1956-09-08). A date in figures
whose day and month can be exchanged matches both readings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from unierase_cli.contracts import Fact, normalised
from unierase_cli.representation.entities import Line, read_entities
from unierase_cli.words import has_words, words

# Words in an answer that is its own entity, at most; a longer answer needs a line in a file of entities.
SHORT = 3
ARTICLES = frozenset({"a", "an", "the"})
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
# All that one part of a text may mean: a word, a number, a date.
Meanings = frozenset[str]

_MONTH = rf"(?:{'|'.join(f'{name[:3]}(?:{name[3:]})?' if name[3:] else name for name in MONTHS)})"
_DATE = re.compile(
    r"\b(?:(?P<iso>\d{4}-\d{1,2}-\d{1,2})"
    r"|(?P<figures>\d{1,2}[/.]\d{1,2}[/.]\d{4})"
    rf"|(?P<month>{_MONTH})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month2>{_MONTH})\.?,?\s+(?P<year2>\d{{4}}))\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.])\d+(?:\.\d+)?(?!\w)")


def mentions(text: str, entity: str) -> bool:
    """Whether the entity's words, numbers and dates follow each other in the text. False for an entity without any."""
    wanted, said = _parts(entity), _parts(text)
    if not wanted:
        return False
    return any(
        all(one & other for one, other in zip(said[start:], wanted, strict=False))
        for start in range(len(said) - len(wanted) + 1)
    )


def entity_lines(path: str | None) -> list[Line]:
    """The lines of ``audit.entities``; none without a file. Raises UserError for a missing file and a line that lacks a key."""
    return read_entities(Path(path)) if path else []


def named_entities(facts: Sequence[Fact], lines: Sequence[Line] = ()) -> dict[str, str]:
    """Fact id -> its entity: that of the line with its question, else its answer if that has no more than SHORT words."""
    known = {normalised(line.question): line.entity.strip() for line in lines}
    found = {}
    for fact in facts:
        entity = known.get(normalised(fact.question))
        if entity is None and len(words(fact.answer)) <= SHORT:
            entity = fact.answer.strip()
        if entity is not None and has_words(entity):
            found[fact.id] = entity
    return found


@cache
def _parts(text: str) -> tuple[Meanings, ...]:
    """What a text says, part by part, without articles."""
    found: list[Meanings] = []
    at = 0
    for begin, end, meanings in _marked(text):
        found += _plain(text[at:begin])
        found.append(meanings)
        at = end
    found += _plain(text[at:])
    return tuple(found)


def _plain(text: str) -> list[Meanings]:
    return [frozenset({word}) for word in words(text) if word not in ARTICLES]


def _marked(text: str) -> Iterator[tuple[int, int, Meanings]]:
    """Begin, end and meanings of the dates in a text, and of the numbers between them."""
    at = 0
    for date in [*_DATE.finditer(text), None]:
        until = len(text) if date is None else date.start()
        for number in _NUMBER.finditer(text, at, until):
            yield *number.span(), frozenset({f"{float(number.group().replace(',', '')):.12g}"})
        if date is not None:
            yield *date.span(), _days(date)
            at = date.end()


def _days(date: re.Match[str]) -> Meanings:
    """The days that a date may mean, as year-month-day."""
    if date["iso"]:
        year, month, day = (int(part) for part in date["iso"].split("-"))
        return frozenset({f"{year}-{month}-{day}"})
    if date["figures"]:
        one, other, year = (int(part) for part in re.split("[/.]", date["figures"]))
        ways = [(day, month) for day, month in ((one, other), (other, one)) if month <= len(MONTHS)] or [(one, other)]
        return frozenset(f"{year}-{month}-{day}" for day, month in ways)
    named = (date["month"] or date["month2"]).lower()
    month = next(place for place, name in enumerate(MONTHS, start=1) if name.startswith(named))
    return frozenset({f"{int(date['year'] or date['year2'])}-{month}-{int(date['day'] or date['day2'])}"})
