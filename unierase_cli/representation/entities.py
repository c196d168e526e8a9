"""Where the fact stands in an answer: the words in front of it and the words that say it (spec: depth, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from unierase_cli.contracts import Fact, UserError, normalised
from unierase_cli.store.jsonl import iterate_jsonl


@dataclass(frozen=True)
class Entity:
    """One fact with the part of its answer that says it. ``prefix``: the answer in front of ``entity``, "" for none. ``kind``: as
    in ``Fact``.
    """

    fact_id: str
    question: str
    answer: str
    prefix: str
    entity: str
    kind: str | None = None


class Line(msgspec.Struct):
    """A line of an entity file; further keys are ignored."""

    question: str
    prefix: str
    entity: str


def read_entities(path: Path) -> list[Line]:
    """The lines of a JSONL file with ``question``, ``prefix`` and ``entity``.

    Raises UserError if the file is missing or a line lacks one of them; only ``prefix`` may be blank.
    """
    hint = 'every line needs "question", "prefix" and "entity", all of them text'
    lines = []
    for number, row in iterate_jsonl(path):
        try:
            line = msgspec.convert(row, Line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}", hint) from None
        if blank := [key for key in ("question", "entity") if not getattr(line, key).strip()]:
            raise UserError(f"{path}:{number}: {blank[0]} is blank", hint)
        lines.append(line)
    if not lines:
        raise UserError(f"{path} has no line", hint)
    return lines


def entities_of(facts: Sequence[Fact], lines: Sequence[Line] = ()) -> list[Entity]:
    """One entity per fact: the line with its question, or its whole answer where ``lines`` is empty.

    With ``lines``, facts without one are left out: compare lengths to count them.
    """
    if not lines:
        return [whole_answer(fact) for fact in facts]
    known = {normalised(line.question): line for line in lines}
    found = [(fact, known.get(normalised(fact.question))) for fact in facts]
    return [Entity(f.id, f.question, f.answer, line.prefix, line.entity, f.kind) for f, line in found if line is not None]


def whole_answer(fact: Fact) -> Entity:
    """The answer as its own entity, with nothing in front."""
    return Entity(fact.id, fact.question, fact.answer, "", fact.answer.strip(), fact.kind)
