"""Does the answer name what the true answer names: whole words, numbers as numbers, dates as dates (spec: audit, 2.1).

For benchmarks with answers of a few words, where ROUGE and exact match punish a model that talks: 1,000 is 1000.0, and 8th of
September, 1956 is 1956-09-08. A number of seven or more digits, such as a telephone's, is the same however it is grouped. A date
in figures whose day and month can be exchanged matches both readings. An entity that is part of a date, such as 1956, September
1956 or September 8, is named by every such date; a day without its month is not, since it may be any number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split
from unierase_cli.words import words

NAME = "entity"
VERSION = 3
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "answers that name the true one", VERSION, HIGHER_IS_BETTER)
BENCHMARKS = ("birthdays", "pistol")

ARTICLES = frozenset({"a", "an", "the"})
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
SEPTEMBER = 9
# All that one part of a text may mean: a word, a number, a date.
Meanings = frozenset[str]
# Year, month and day.
Day = tuple[int, int, int]
# From a date in a text and a day that it may mean to the parts of the text that it stands for.
Way = Callable[[re.Match[str], Day], list[Meanings]]

_MONTH = rf"(?:{'|'.join(f'{name[:3]}(?:{name[3:]})?' if name[3:] else name for name in MONTHS)}|sept)"
_DATE = re.compile(
    r"\b(?:(?P<iso>\d{4}-\d{1,2}-\d{1,2})"
    r"|(?P<figures>\d{1,2}[/.]\d{1,2}[/.]\d{4})"
    rf"|(?P<month>{_MONTH})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month2>{_MONTH})\.?,?\s+(?P<year2>\d{{4}}))\b",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\b{_MONTH}\b", re.IGNORECASE)
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
    wanted = _parts(entity)
    if not wanted:
        return False
    grouped = _grouped(entity)
    if grouped is not None and any(not _DECIMAL.fullmatch(match) for match in grouped.findall(text)):
        return True
    if _follow(_parts(text), wanted):
        return True
    if _DATE.search(entity) or not _DATE.search(text):
        return False
    ways = WRITTEN if len(wanted) > 1 and _NAMED.search(entity) else (_without_day,)
    return any(_follow(_parts(text, way, reading), wanted) for way in ways for reading in (0, -1))


def _follow(said: Sequence[Meanings], wanted: Sequence[Meanings]) -> bool:
    """Whether the wanted parts follow each other in what is said."""
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
def _parts(text: str, way: Way | None = None, reading: int = 0) -> tuple[Meanings, ...]:
    """What a text says, part by part, without articles; a date is one part, or what ``way`` makes of that reading of it."""
    found: list[Meanings] = []
    at = 0
    for begin, end, parts in _marked(text, way, reading):
        found += _plain(text[at:begin])
        found += parts
        at = end
    found += _plain(text[at:])
    return tuple(found)


def _plain(text: str) -> list[Meanings]:
    return [frozenset({word}) for word in words(text) if word not in ARTICLES]


def _marked(text: str, way: Way | None, reading: int) -> Iterator[tuple[int, int, list[Meanings]]]:
    """Begin, end and parts of the dates in a text, and of the numbers between them."""
    at = 0
    for date in [*_DATE.finditer(text), None]:
        until = len(text) if date is None else date.start()
        for number in _NUMBER.finditer(text, at, until):
            yield *number.span(), [frozenset({_exact(number.group())})]
        if date is not None:
            yield *date.span(), way(date, _days(date)[reading]) if way else [_day(date)]
            at = date.end()


def _day(date: re.Match[str]) -> Meanings:
    """The days that a date may mean, as year-month-day."""
    return frozenset("-".join(map(str, day)) for day in _days(date))


def _without_day(date: re.Match[str], day: Day) -> list[Meanings]:
    """The month only where it is a word, and as written: Jan and May are names, too."""
    named = date["month"] or date["month2"]
    return [frozenset({text.lower()}) for text in (named, str(day[0])) if text]


def _month_first(date: re.Match[str], day: Day) -> list[Meanings]:
    year, month, number = day
    names = {form for name in MONTHS[month - 1 : month] for form in (name, name[:3], "sept" if month == SEPTEMBER else name)}
    numbers = {f"{number}{ending}" for ending in ("", "st", "nd", "rd", "th")}
    return [frozenset(names), frozenset(numbers), frozenset({str(year)})]


def _day_first(date: re.Match[str], day: Day) -> list[Meanings]:
    month, number, year = _month_first(date, day)
    return [number, month, year]


def _day_of_month(date: re.Match[str], day: Day) -> list[Meanings]:
    month, number, year = _month_first(date, day)
    return [number, frozenset({"of"}), month, year]


# Ways to write a date out, one of which an entity with a month may be a part of.
WRITTEN: tuple[Way, ...] = (_month_first, _day_first, _day_of_month)


def _days(date: re.Match[str]) -> list[Day]:
    """The days that a date may mean: two if day and month can be exchanged."""
    if date["iso"]:
        year, month, day = (int(part) for part in date["iso"].split("-"))
        return [(year, month, day)]
    if date["figures"]:
        one, other, year = (int(part) for part in re.split("[/.]", date["figures"]))
        ways = [(day, month) for day, month in ((one, other), (other, one)) if month <= len(MONTHS)] or [(one, other)]
        return [(year, month, day) for day, month in ways]
    named = (date["month"] or date["month2"]).lower()
    month = next(place for place, name in enumerate(MONTHS, start=1) if name.startswith(named))
    return [(int(date["year"] or date["year2"]), month, int(date["day"] or date["day2"]))]
