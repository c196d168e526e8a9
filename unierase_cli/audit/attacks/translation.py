"""The question in other languages, from a table; no model translates (RWKU 2406.10890: cross-lingual questions).

A line of the table has ``question``, ``language``, ``translation`` and perhaps ``answer``, in that language. ``question`` is a
fact's own, or a frame of it: "Where was {name} born?" fits every such question, and ``{name}`` goes into translation and answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from unierase_cli.audit.asking import answers, fitting
from unierase_cli.audit.base import RIGHT, Case, Row, Target
from unierase_cli.audit.mentions import named_entities
from unierase_cli.contracts import Fact, UserError, normalised
from unierase_cli.metrics.entity import mentions
from unierase_cli.metrics.rouge import rouge_l_recall
from unierase_cli.store.jsonl import iterate_jsonl
from unierase_cli.words import has_words

CLASS, PRESET, VERSION = "prompts", "thorough", 2
SETTINGS: Mapping[str, Any] = {"table": ""}
FILES = ("table",)
NEEDS = ("table",)
SCORE, ENTITIES = "right", True
REQUIRED = ("question", "language", "translation")
SLOT = re.compile(r"\{(\w+)\}")


class Line(msgspec.Struct):
    """A line of the table; further keys are ignored."""

    question: str
    language: str
    translation: str
    answer: str | None = None


@dataclass(frozen=True)
class Asked:
    """A fact in another language. ``answer``: what is right there, None where the entity is looked for."""

    fact: Fact
    language: str
    question: str
    answer: str | None


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("mean of the languages")]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    """Right: the recall of the translated answer, or without one whether the entity is named."""
    lines = read_table(Path(settings["table"]))
    entities = named_entities(target.facts, target.entities)
    for number, language in enumerate(dict.fromkeys(line.language for line in lines)):
        some = [line for line in lines if line.language == language]
        asked = {found.fact.id: found for found in translated(target.facts, some)}
        asked = {name: found for name, found in asked.items() if found.answer is not None or name in entities}
        facts = [replace(found.fact, question=found.question) for found in asked.values()]
        facts = fitting(facts, lambda fact: target.loaded.prompts.prompt(fact.question, fact.kind))
        for row in answers(target, facts, sample=number):
            wanted = asked[row.fact].answer
            right = (
                float(mentions(row.text, entities[row.fact])) if wanted is None else rouge_l_recall(row.text, wanted)
            )
            yield replace(row, reference=wanted or entities[row.fact], scores={RIGHT: right})


def read_table(path: Path) -> list[Line]:
    """The lines of a table; a blank answer is none.

    Raises UserError for a line in which a key is missing or blank, and for a slot of a translation that its question lacks.
    """
    hint = 'every line needs "question", "language" and "translation", all of them text'
    found = []
    for number, row in iterate_jsonl(path):
        try:
            line = msgspec.convert(row, Line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}", hint) from None
        if blank := [key for key in REQUIRED if not getattr(line, key).strip()]:
            raise UserError(f"{path}:{number}: {blank[0]} is blank", hint)
        if line.answer is not None and not has_words(line.answer):
            line.answer = None
        unknown = set(SLOT.findall(line.translation + (line.answer or ""))) - set(SLOT.findall(line.question))
        if unknown:
            raise UserError(
                f"{path}:{number}: {{{min(unknown)}}} is not in the question", "name it there, or leave it out"
            )
        found.append(line)
    return found


def translated(facts: Sequence[Fact], lines: Sequence[Line]) -> Iterator[Asked]:
    """Every fact that a line fits, by the first such line."""
    frames = [(_frame(line.question), line) for line in lines]
    for fact in facts:
        for (frame, names), line in frames:
            if fits := frame.fullmatch(normalised(fact.question)):
                # As written in the question, whose words a frame only finds in lower case.
                own = _as_written(fact.question, dict(zip(names, fits.groups(), strict=True)))
                answer = None if line.answer is None else _filled(line.answer, own)
                yield Asked(fact, line.language, _filled(line.translation, own), answer)
                break


def _frame(question: str) -> tuple[re.Pattern[str], list[str]]:
    """A question, normalised, in which every slot stands for some words, and the slots; one that is repeated for the same words."""
    parts = SLOT.split(question)
    names = list(dict.fromkeys(parts[1::2]))
    # Normalising drops closing punctuation, which only stands at the end, and the case of names.
    slots = (part if place % 2 == 0 else f"\x00{names.index(part)}\x00" for place, part in enumerate(parts))
    pieces = normalised("".join(slots)).split("\x00")
    pattern, seen = "", set()
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            pattern += re.escape(piece)
            continue
        pattern += f"(?:\\{int(piece) + 1})" if piece in seen else "(.+?)"
        seen.add(piece)
    return re.compile(pattern), names


def _as_written(question: str, found: Mapping[str, str]) -> dict[str, str]:
    own = {}
    for name, text in found.items():
        match = re.search(re.escape(text), question, re.IGNORECASE)
        own[name] = match.group() if match else text
    return own


def _filled(text: str, words: Mapping[str, str]) -> str:
    return SLOT.sub(lambda slot: words[slot.group(1)], text)
