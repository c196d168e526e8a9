"""The question in other words, greedy: the benchmark's own paraphrases (TOFU; closer-look 2410.08109)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.contracts import Fact

CLASS, PRESET, VERSION = "prompts", "quick", 1
NEEDS = ("paraphrases",)
SETTINGS: Mapping[str, Any] = {}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [
        Case("other words", {"forbid": False}),
        Case("other words, token forbidden", {"forbid": True}, token=True, without_token="other words"),
    ]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    facts = [fact for fact in target.facts if fact.paraphrased_question is not None]

    def prompt(fact: Fact) -> Any:
        return target.loaded.prompts.prompt(fact.paraphrased_question or fact.question, fact.kind)

    return answers(target, facts, prompt=prompt, forbid=case.values["forbid"])
