"""Questions about invented people, in several wordings, with answers, paraphrases and wrong answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from unierase_cli.benchmarks.parts.people import Person, decoys
from unierase_cli.contracts import Fact, pick, stable_hash, stable_hashes
from unierase_cli.store.jsonl import read_asset

# Asked about everybody; the other kinds are drawn for each person.
CORE = ("identity", "birth", "genre", "parents", "award", "debut")
WRONG_ANSWERS = 5
SUBJECT = re.compile(r"\[(.*)\]")


@dataclass(frozen=True)
class Form:
    """A kind of question; ``slots`` are the placeholders in which a wrong answer differs from the right one.

    Square brackets in a question mark its subject, by default the person's name.
    """

    kind: str
    slots: tuple[str, ...]
    questions: tuple[str, ...]
    reworded_questions: tuple[str, ...]
    answers: tuple[str, ...]
    reworded_answers: tuple[str, ...]


@cache
def forms() -> dict[str, Form]:
    """Every kind of question, in the order of a person's questions."""
    rows = read_asset("fictional_questions.jsonl")
    return {row["kind"]: Form(row["kind"], *(tuple(v) for k, v in row.items() if k != "kind")) for row in rows}


def facts_about(person: Person, count: int, seed: int) -> list[Fact]:
    """``count`` questions about one person (at most ``len(forms())``): the core kinds first, then a draw of the others."""
    others = sorted(
        (kind for kind in forms() if kind not in CORE), key=lambda kind: stable_hash(seed, person.key, kind)
    )
    chosen = {*CORE[:count], *others[: max(0, count - len(CORE))]}
    return [_fact(person, form, seed) for form in forms().values() if form.kind in chosen]


def question_about(person: Person, turn: int, seed: int) -> tuple[str, str]:
    """One question about the person, and its subject; the kinds alternate by ``turn``, so that each is used."""
    kinds = sorted(forms(), key=lambda kind: stable_hash(seed, "order of kinds", kind))
    return _question(person, forms()[kinds[turn % len(kinds)]], seed)


def _fact(person: Person, form: Form, seed: int) -> Fact:
    question, subject = _question(person, form, seed)
    key = f"{person.key}/{form.kind}"
    reworded = pick(seed, f"{key}/reworded answer", form.reworded_answers)
    return Fact(
        id=f"{person.key}-{form.kind}",
        question=question,
        answer=pick(seed, f"{key}/answer", form.answers).format_map(person.values),
        subject=subject,
        paraphrased_question=pick(seed, f"{key}/reworded question", form.reworded_questions).format_map(person.values),
        paraphrased_answer=reworded.format_map(person.values),
        wrong_answers=_wrong_answers(person, form, reworded, seed),
        group=person.name,
    )


def _question(person: Person, form: Form, seed: int) -> tuple[str, str]:
    template = pick(seed, f"{person.key}/{form.kind}/question", form.questions)
    marked = template.format_map(person.values)
    found = SUBJECT.search(marked)
    return marked.replace("[", "").replace("]", ""), found.group(1) if found else person.name


def _wrong_answers(person: Person, form: Form, template: str, seed: int) -> tuple[str, ...]:
    """The paraphrased answer with other people's values in the form's slots, none of them true and no two alike."""
    wrong: list[str] = []
    order = stable_hashes(seed, person.key, form.kind)
    for other in sorted(decoys(seed), key=lambda other: order(other.key)):
        if all(other.values[slot] != person.values[slot] for slot in form.slots):
            text = template.format_map({**person.values, **{slot: other.values[slot] for slot in form.slots}})
            wrong += [text] if text not in wrong else []
        if len(wrong) == WRONG_ANSWERS:
            break
    return tuple(wrong)
