"""The entities of facts, which an audit looks for in answers (spec: audit, 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unierase_cli.contracts import Fact, normalised
from unierase_cli.representation.entities import Line, read_entities
from unierase_cli.words import has_words, words

# Words in an answer that is its own entity, at most; a longer answer needs a line in a file of entities.
SHORT = 3


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
