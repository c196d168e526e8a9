"""Turns a model's free text about a target into questions with claimed answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from unierase_cli.contracts import normalised

MARK = re.compile(r"^\W*(?:\d+\s*[.):]\s*)?(?:(q|question|a|answer)\s*\d*\s*[:.])\s*", re.IGNORECASE)
NUMBER = re.compile(r"^\W*\d+\s*[.):]\s*")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
PRONOUNS = {"he": "", "she": "", "they": "", "it": "", "his": "'s", "her": "'s", "their": "'s", "its": "'s"}
PRONOUN = re.compile(rf"\b({'|'.join(PRONOUNS)})\b", re.IGNORECASE)
# At the start of a sentence a pronoun means what the text is about.
OPENING = re.compile(rf"^({'|'.join(PRONOUNS)})\b", re.IGNORECASE)
# Words of a sentence that are given after the name, and words that must follow them.
GIVEN, HIDDEN = 2, 2
COMPLETE = 'Complete this sentence: "{start} ..."'


def facts_in(text: str, name: str) -> list[tuple[str, str]]:
    """(question, claimed answer) pairs of a text, each question with ``name`` in it, repeated questions once.

    Questions and answers are read if the text has any ("Q: ... A: ...", "1. ...? ..."). Otherwise each sentence about the
    target becomes a question that gives its beginning.
    """
    pairs = list(_pairs(text)) or list(_sentences(text, name))
    found: dict[str, tuple[str, str]] = {}
    for question, answer in pairs:
        question = named(question, name, PRONOUN)
        if name in question and answer.strip():
            found.setdefault(normalised(question), (question, answer.strip()))
    return list(found.values())


def named(text: str, name: str, pronoun: re.Pattern[str]) -> str:
    """The text with the first match of ``pronoun`` replaced by the name, unless the name is in it."""
    if name in text:
        return text
    return pronoun.sub(lambda match: name + PRONOUNS[match.group(1).lower()], text, count=1)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    question: str | None = None
    for line in text.replace("**", "").splitlines():
        marked = MARK.match(line)
        rest = line[marked.end() :].strip() if marked else NUMBER.sub("", line).strip()
        if not rest:
            continue
        role = marked.group(1)[0].lower() if marked else ""
        if role == "a":
            if question is not None and rest:
                yield question, rest
            question = None
            continue
        asked, mark, answer = rest.partition("?")
        if not mark:
            if question is not None and rest and not role:
                yield question, rest
                question = None
            continue
        inner = MARK.match(answer.strip())
        answer = answer.strip()[inner.end() :] if inner else answer.strip()
        question = f"{asked.strip()}?"
        if answer:
            yield question, answer
            question = None


def _sentences(text: str, name: str) -> Iterator[tuple[str, str]]:
    for sentence in SENTENCE.split(" ".join(text.split())):
        sentence = named(sentence, name, OPENING)
        before, found, after = sentence.partition(name)
        words = after.split()
        if found and len(words) >= GIVEN + HIDDEN:
            given = max(GIVEN, len(words) // 3)
            start = f"{before}{name}{'' if after[:1] in (chr(39), '’', ',') else ' '}{' '.join(words[:given])}"
            yield COMPLETE.format(start=start), sentence
