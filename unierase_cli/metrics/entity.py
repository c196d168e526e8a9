"""Does the answer name what the true answer names: whole words, numbers as numbers, dates as dates (spec: audit, 2.1).

For benchmarks with answers of a few words, where ROUGE and exact match punish a model that talks: 1,000 is 1000.0, and 8th of
September, 1956 is 1956-09-08. A number of seven or more digits, such as a telephone's, is the same however it is grouped. A date
in figures whose day and month can be exchanged matches both readings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split
from unierase_cli.words import words

NAME = "entity"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "answers that name the true one", VERSION, HIGHER_IS_BETTER)
BENCHMARKS = ("birthdays", "pistol")

ARTICLES = frozenset({"a", "an", "the"})
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
# All that one part of a text may mean: a word, a number, a date.
Meanings = frozenset[str]

_MONTH = rf"(?:{'|'.join(f'{name[:3]}(?:{name[3:]})?' if name[3:] else name for name in MONTHS)}|sept)"
_DATE = re.compile(
    r"\b(?:(?P<iso>\d{4}-\d{1,2}-\d{1,2})"
    r"|(?P<figures>\d{1,2}[/.]\d{1,2}[/.]\d{4})"
    rf"|(?P<month>{_MONTH})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month2>{_MONTH})\.?,?\s+(?P<year2>\d{{4}}))\b",
    re.IGNORECASE,
)
# What groups the digits of a long number, and a number that is no grouped one.
_BETWEEN, LONG = "[-() .]", 7
_DECIMAL = re.compile(r"\d+\.\d+")
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.])\d+(?:\.\d+)?(?!\w)")


def compute(observations: Sequence[Observation]) -> Measure:
    """Share of the generated texts that contain the true answer."""
    return mean_result(ABOUT, [float(mentions(o.text, o.reference)) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    """No columns for benchmarks with answers in sentences."""
    return on_every_split(evidence, ABOUT, compute, turns=True) if evidence.benchmark in BENCHMARKS else []


def mentions(text: str, entity: str) -> bool:
    """Whether the entity's words, numbers and dates follow each other in the text, or its digits if it is a long number.

    False for an entity without any.
    """
    wanted, said = _parts(entity), _parts(text)
    if not wanted:
        return False
    grouped = _grouped(entity)
    if grouped is not None and any(not _DECIMAL.fullmatch(match) for match in grouped.findall(text)):
        return True
    return any(
        all(one & other for one, other in zip(said[start:], wanted, strict=False))
        for start in range(len(said) - len(wanted) + 1)
    )


@cache
def _grouped(entity: str) -> re.Pattern[str] | None:
    """The digits of a long number in any groups; None for an entity that is none."""
    digits = re.sub(_BETWEEN, "", entity)
    if len(digits) < LONG or not (digits.isascii() and digits.isdecimal()) or _DECIMAL.fullmatch(entity.strip(" .")):
        return None
    return re.compile(rf"(?<!\w){f'{_BETWEEN}{{0,3}}'.join(digits)}(?!\w)")


def _exact(number: str) -> str:
    """A number without its commas and the zeros at its ends that mean nothing."""
    shown = f"{Decimal(number.replace(',', '')):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


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
            yield *number.span(), frozenset({_exact(number.group())})
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
