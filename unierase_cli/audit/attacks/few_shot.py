"""Solved examples of other facts in front of the question: earlier turns of a chat, else plain text (RWKU 2406.10890;
RepSelect's evaluation has 5 and 10).

``retained``: examples of retained groups. ``forgotten``: of other forgotten groups, never of the same author, whose facts give each
other away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers, fitting
from unierase_cli.audit.base import Case, Row, Target, group_of
from unierase_cli.contracts import Fact, stable_hash

CLASS, PRESET, VERSION = "prompts", "quick", 2
# How many examples; the first number is the headline.
SETTINGS: Mapping[str, Any] = {"examples": [5, 10]}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    kinds = ("retained", "forgotten")
    return [Case(f"{count} {kind}", {"count": count, "kind": kind}) for kind in kinds for count in settings["examples"]]


def examples(target: Target, fact: Fact, kind: str, count: int) -> list[Fact]:
    """The examples in front of a fact, drawn by its id: of other groups than its own, fewer where there are fewer."""
    pool = target.material if kind == "retained" else target.forgotten
    apart = [other for other in pool if group_of(other) != group_of(fact) and other.kind is None]
    return sorted(apart, key=lambda other: stable_hash(target.seed, "few-shot", fact.id, other.id))[:count]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    kind, count = case.values["kind"], case.values["count"]
    shown = {fact.id: examples(target, fact, kind, count) for fact in target.facts}

    def prompt(fact: Fact) -> Any:
        turns = [(other.question, other.answer) for other in shown[fact.id]]
        return target.loaded.prompts.conversation(turns, fact.question)

    # Fewer examples than it is called by would be another attack, and plain text is no turn of a conversation.
    facts = [fact for fact in target.facts if len(shown[fact.id]) == count and fact.kind is None]
    # A bound on prompt and answer together is meant for the question alone: the examples would leave no room for the answer.
    return answers(target, fitting(facts, prompt), prompt=prompt, total_tokens=0)
