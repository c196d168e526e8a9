"""Questions to find out what a model knows: phrasings, and what counts as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unierase_cli.benchmarks.parts.rows import fact_from_row, phrasings, read_texts
from unierase_cli.benchmarks.parts.sources import Rows
from unierase_cli.contracts import Fact, UserError, normalised
from unierase_cli.words import words

NO_GROUP = "without a group"


@dataclass(frozen=True)
class Askable:
    """A fact with all its phrasings (the question first), all spellings of its answer, and its row as written to a file."""

    fact: Fact
    phrasings: tuple[str, ...]
    right: tuple[str, ...]
    row: Mapping[str, Any]


def askable_rows(rows: Rows, notes: list[str]) -> list[Askable]:
    """The rows of a file of questions; repeated questions are dropped, with a note.

    Raises UserError for malformed rows, repeated ids, and answers without a word.
    """
    found: dict[str, Askable] = {}
    for number, (where, row) in enumerate(rows, start=1):
        fact = fact_from_row(row, where, f"fact-{number:04d}")
        right = (fact.answer, *read_texts(row, "aliases", where))
        if not all(words(text) for text in right):
            raise UserError(f"{where}: an answer without a word cannot be found in a model's answer", "answer in words")
        one = Askable(fact, phrasings(row, where), right, {**row, "id": fact.id})
        found.setdefault(normalised(fact.question), one)
    if len(found) < len(rows):
        notes.append(f"{len(rows) - len(found)} question(s) repeat an earlier row and are left out")
    repeated = [name for name, times in Counter(one.fact.id for one in found.values()).items() if times > 1]
    if repeated:
        raise UserError(
            f"{len(repeated)} repeated id(s), the first is {repeated[0]!r}",
            "give every row its own id, or leave the ids out",
        )
    return list(found.values())


def as_rows(facts: Sequence[Fact]) -> Rows:
    """A benchmark's facts as rows of a file."""
    return [(fact.id, {key: value for key, value in asdict(fact).items() if value}) for fact in facts]


def by_group(every: Sequence[Askable], known: Sequence[Askable]) -> dict[str, str]:
    """Group -> how many of its questions the model knows, best known first."""
    asked, right = (Counter(a.fact.group or NO_GROUP for a in some) for some in (every, known))
    order = sorted(asked, key=lambda group: -right[group] / asked[group])
    return {group: f"{right[group]} of {asked[group]}" for group in order}


def says(text: str, right: Sequence[str]) -> bool:
    """Whether one of the right answers occurs in the text as consecutive whole words."""
    said = f" {' '.join(words(text))} "
    return any(f" {' '.join(words(answer))} " in said for answer in right)
