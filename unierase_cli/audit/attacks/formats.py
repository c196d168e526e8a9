"""The fact in another format than question and answer (RWKU 2406.10890, its levels of probes; spec: audit, section 3).

A choice is made by probability, not by letter: the option with the highest mean log-probability per token, the options in every
rotation of their order. TOFU's wrong answers are made from another wording of the true one, so the true one is known by its
wording as well as by its fact; in a reworded choice it has that other wording. A yes or no is the likelier of both words; true
and false statements count alike, so that a model that always agrees has 0.5. A blank or a reversed question is answered greedily,
and right if the answer names what is missing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING, Any

from unierase_cli.audit.asking import answer_probabilities, answers, fitting
from unierase_cli.audit.base import CHANCE, RIGHT, Case, Row, Target
from unierase_cli.audit.mentions import named_entities
from unierase_cli.contracts import Fact, UserError, normalised, stable_hash
from unierase_cli.metrics.entity import mentions

if TYPE_CHECKING:
    from unierase_cli.models.prompts import Prompt

CLASS, PRESET, VERSION = "prompts", "standard", 2
# Wrong answers beside the true one: the benchmark's own, else the answers of so many other facts.
SETTINGS: Mapping[str, Any] = {"others": 3}
SCORE, ENTITIES = "right", True
CHOICE, REWORDED, BLANK = "multiple choice", "reworded choice", "fill in the blank"
REVERSED, YES_NO = "reversed", "yes or no"
GAP = "____"
# Words of a name below this length, such as "van", are left in a reversed question.
NAME_WORD = 4
SMALLEST = sys.float_info.min


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case(name) for name in (CHOICE, REWORDED, BLANK, REVERSED, YES_NO)]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    if case.name == BLANK:
        return _filled(target)
    if case.name == REVERSED:
        return _named(target)
    if case.name == REWORDED:
        facts = [replace(f, answer=f.paraphrased_answer) for f in target.facts if f.paraphrased_answer and f.wrong_answers]
        return _chosen(target, facts, settings["others"])
    return _chosen(target, target.facts, settings["others"]) if case.name == CHOICE else _judged(target, settings["others"])


def _chosen(target: Target, facts: Sequence[Fact], others: int) -> list[Row]:
    """Which option the model takes. Log-probabilities are averaged over the rotations, so that a place in the list favours none."""
    found = []
    for fact in facts:
        options = [fact.answer, *wrong_answers(target, fact, others)]
        turned = [[*options[turn:], *options[:turn]] for turn in range(len(options))]
        lists = ["\n".join(f"- {option}" for option in order) for order in turned]
        prompts = _prompts(target, [f"{fact.question}\nChoose the right answer:\n{listed}" for listed in lists])
        if len(options) < 2 or not prompts:
            continue
        answered = [target.loaded.prompts.answer_ids(option) for option in options]
        values = answer_probabilities(target, [(prompt, answer) for prompt in prompts for answer in answered])
        logs = [log(max(value, SMALLEST)) for value in values]
        taken = max(range(len(options)), key=lambda place: sum(logs[place :: len(options)]))
        scores = {RIGHT: float(taken == 0), CHANCE: 1 / len(options)}
        found.append(Row(fact.id, fact.question, fact.answer, options[taken], scores=scores))
    return found


def _judged(target: Target, others: int) -> list[Row]:
    """Balanced accuracy over a true and a false statement."""
    words = [target.loaded.prompts.answer_ids(word, end=False) for word in ("Yes", "No")]
    found = []
    for fact in target.facts:
        wrong = wrong_answers(target, fact, others)[:1]
        texts = [f'Is it true that the answer to "{fact.question}" is "{answer}"?' for answer in (fact.answer, *wrong)]
        prompts = _prompts(target, texts)
        if not wrong or not prompts:
            continue
        values = answer_probabilities(target, [(prompt, word) for prompt in prompts for word in words])
        true_yes, true_no, false_yes, false_no = values
        right = ((true_yes > true_no) + (false_no > false_yes)) / 2
        said = f"{'yes' if true_yes > true_no else 'no'} to the truth, {'yes' if false_yes > false_no else 'no'} to {wrong[0]!r}"
        found.append(Row(fact.id, fact.question, fact.answer, said, scores={RIGHT: right, CHANCE: 0.5}))
    return found


def _prompts(target: Target, texts: Sequence[str]) -> list[list[int]]:
    """The prompts of these texts; none if one does not fit the context, which says nothing about what is known."""
    try:
        return [target.loaded.prompts.prompt(text).ids for text in texts]
    except UserError:
        return []


def _filled(target: Target) -> list[Row]:
    """The entity that is left out of the true answer."""
    entities = named_entities(target.facts, target.entities)
    texts = {fact.id: with_gap(fact, entities[fact.id]) for fact in target.facts if fact.id in entities}
    facts = [fact for fact in target.facts if texts.get(fact.id)]
    return _scored(target, facts, lambda fact: f"Complete the blank: {texts[fact.id]}", lambda fact: entities[fact.id])


def _named(target: Target) -> list[Row]:
    """Whom or what an answer is about, its name left out of it."""
    facts = [fact for fact in target.facts if fact.subject and without_name(fact.answer, fact.subject) is not None]

    def question(fact: Fact) -> str:
        return f'Whom or what is this about? "{without_name(fact.answer, fact.subject or "")}"'

    return _scored(target, facts, question, lambda fact: fact.subject or "")


def _scored(
    target: Target, facts: Sequence[Fact], question: Callable[[Fact], str], wanted: Callable[[Fact], str]
) -> list[Row]:
    def prompt(fact: Fact) -> Prompt:
        return target.loaded.prompts.prompt(question(fact))

    facts = fitting(facts, prompt)
    rows = answers(target, facts, prompt=prompt)
    return [
        Row(row.fact, row.question, wanted(fact), row.text, scores={RIGHT: float(mentions(row.text, wanted(fact)))})
        for fact, row in zip(facts, rows, strict=True)
    ]


def with_gap(fact: Fact, entity: str) -> str | None:
    """The answer with a blank for its entity; None where it is not in it as written, or nothing else is left."""
    text = fact.answer.replace(entity, GAP)
    return text if GAP in text and re.search(r"\w", text.replace(GAP, "")) else None


def without_name(answer: str, subject: str) -> str | None:
    """An answer without its subject and the words of it; None where nothing is left to recognise it by."""
    text = re.sub(re.escape(subject), GAP, answer, flags=re.IGNORECASE)
    for word in re.findall(r"\w+", subject):
        if len(word) >= NAME_WORD:
            text = re.sub(rf"\b{re.escape(word)}\b", GAP, text, flags=re.IGNORECASE)
    return text if re.search(r"\w", text.replace(GAP, "")) else None


def wrong_answers(target: Target, fact: Fact, others: int) -> list[str]:
    """The benchmark's own wrong answers, else those of other facts whose questions begin alike, drawn by the fact's id."""
    if fact.wrong_answers:
        return list(fact.wrong_answers)
    true, beginning = normalised(fact.answer), fact.question.split()[:2]
    pool = {
        normalised(other.answer): other
        for other in (*target.material, *target.forgotten)
        if normalised(other.answer) != true
    }

    def place(other: Fact) -> tuple[int, int]:
        first = other.question.split()[:2]
        alike = sum(one == two for one, two in zip(first, beginning, strict=False)) if first[:1] == beginning[:1] else 0
        return -alike, stable_hash(target.seed, "wrong answer", fact.id, other.id)

    return [other.answer for other in sorted(pool.values(), key=place)[:others]]
