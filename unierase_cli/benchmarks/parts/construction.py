"""Builds RETURN's splits from what a model knows (Liu et al., 2024; spec: return, section 2); needs no model.

The authors set no seed; here every draw is a stable hash of ``benchmark.seed`` and its purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unierase_cli.benchmarks.parts.rows import read_text
from unierase_cli.benchmarks.parts.sources import Rows
from unierase_cli.contracts import NAME_SLOT, UserError, normalised, stable_hash

# A person is known if at least this share of the answers about them is right.
KNOWN_SHARE = 0.8
# Share of the known people who are forgotten.
FORGET_SHARE = 0.1
# Questions made up per person.
MADE_UP = 10


@dataclass(frozen=True)
class Question:
    """One question about a person; ``key`` is unique among all questions: "12-3"."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Person:
    name: str
    questions: tuple[Question, ...]


def read_people(rows: Rows, notes: list[str]) -> list[Person]:
    """The people of RETURN.jsonl, each with their questions.

    Repeated questions about a person are dropped, and so are later people with the same name. Raises UserError for a
    row without a name, for a person without questions, and for a question without an answer.
    """
    people: dict[str, Person] = {}
    repeated = alike = 0
    for number, (where, row) in enumerate(rows):
        name = read_text(row, "name", where, required=True) or ""
        listed = row.get("qa_list")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise UserError(
                f'{where}: "qa_list" is not a list of questions and answers',
                'a row looks like {"name": "...", "qa_list": [{"question": "...", "answer": "..."}]}',
            )
        if not listed:
            raise UserError(f"{where}: {name!r} has no questions and answers", "remove the person from the file")
        asked: dict[str, Question] = {}
        for place, entry in enumerate(listed):
            spot = f"{where} question {place + 1}"
            question, answer = (read_text(entry, key, spot, required=True) or "" for key in ("question", "answer"))
            asked.setdefault(normalised(question), Question(f"{number}-{place}", question, answer))
        repeated += len(listed) - len(asked)
        alike += name in people
        people.setdefault(name, Person(name, tuple(asked.values())))
    if alike:
        notes.append(f"{alike} person(s) have the same name as another one and are left out")
    if repeated:
        notes.append(f"{repeated} question(s) repeat another one about the same person and are left out")
    return list(people.values())


def known_people(people: Sequence[Person], right: Collection[str]) -> list[Person]:
    """People with at least KNOWN_SHARE of their questions, and at least two, answered right (``right``: keys)."""
    return [
        person
        for person in people
        if len(person.questions) > 1
        and sum(question.key in right for question in person.questions) >= KNOWN_SHARE * len(person.questions)
    ]


def split_people(people: Sequence[Person], seed: int) -> tuple[list[Person], list[Person]]:
    """People to forget (FORGET_SHARE of them, at least one) and to retain. Raises UserError for fewer than two."""
    if len(people) < 2:
        raise UserError(
            f"the model knows {len(people)} of these people well enough, but at least two are needed",
            "give a model that knows more, or more people",
        )
    drawn = sorted(people, key=lambda person: stable_hash(seed, "people", person.name))
    count = max(1, int(FORGET_SHARE * len(drawn)))
    return drawn[:count], drawn[count:]


def split_questions(person: Person, seed: int) -> tuple[list[Question], list[Question]]:
    """Half of the questions for methods to learn from, the other half to score."""
    drawn = sorted(
        person.questions, key=lambda question: stable_hash(seed, "questions", person.name, question.question)
    )
    half = len(drawn) // 2
    return drawn[:half], drawn[half:]


def made_up_questions(
    train: Mapping[str, Sequence[Question]], people: Sequence[Person], seed: int
) -> dict[str, list[str]]:
    """Person -> MADE_UP questions about others, with the person's name in place of theirs (NAUF's augmentation).

    ``train``: name -> questions that methods learn from; those that contain the name are the templates. A person's own
    questions, scored ones included, are never made up again.
    """
    slotted = (
        q.question.replace(name, NAME_SLOT)
        for name, questions in train.items()
        for q in questions
        if name in q.question
    )
    templates = list(dict.fromkeys(slotted))
    found = {}
    for person in people:
        own = {normalised(question.question) for question in person.questions}
        drawn = sorted(templates, key=lambda text: stable_hash(seed, "made up", person.name, text))
        asked = (text.replace(NAME_SLOT, person.name) for text in drawn)
        found[person.name] = [text for text in asked if normalised(text) not in own][:MADE_UP]
    return found
