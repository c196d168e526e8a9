"""Names that questions share: two or more capitalised words in a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

# A word with a capital letter of any script and inner apostrophes and hyphens, or an initial; and several of them.
WORD = r"\p{Lu}(?:[\w'’\-]*\w)?"
NAME = rf"{WORD}(?: (?:{WORD}|\p{{Lu}}\.))+"
POSSESSIVE = re.compile(r"['’]s$")


def shared_names(questions: Iterable[str], least: int = 2) -> Counter[str]:
    """Every name in at least ``least`` of the questions, with their number; parts of a longer name count as names too."""
    counts = Counter(name for question in questions for name in set(_names(question)))
    return Counter({name: times for name, times in counts.items() if times >= least})


def most_shared(question: str, names: Counter[str]) -> str | None:
    """The name in the question that most questions share, the longest of equals; None if it has none of them."""
    return max((name for name in names if name in question), key=lambda name: (names[name], len(name)), default=None)


def first_named(question: str, names: Iterable[str]) -> str | None:
    """The name that comes first in the question, the longest of those that begin there; None if it has none of them."""
    found = [name for name in names if name in question]
    return min(found, key=lambda name: (question.index(name), -len(name)), default=None)


def _names(question: str) -> Iterable[str]:
    for match in _pattern().findall(question):
        parts = POSSESSIVE.sub("", match).split(" ")
        for begin in range(len(parts)):
            yield from (POSSESSIVE.sub("", " ".join(parts[begin:end])) for end in range(begin + 2, len(parts) + 1))


@cache
def _pattern() -> Pattern[str]:
    import regex

    return regex.compile(NAME)
