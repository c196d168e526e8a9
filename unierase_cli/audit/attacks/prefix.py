"""The first tokens of the true answer (whole characters) are given, the rest is greedy; only the rest counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers, first_tokens
from unierase_cli.audit.base import Case, Row, Target

CLASS, PRESET, VERSION = "prompts", "quick", 2
# How many tokens are given; the first number is the headline.
SETTINGS: Mapping[str, Any] = {"tokens": [4, 1, 2, 8]}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    plain = [Case(f"{count} given", {"count": count, "forbid": False}) for count in settings["tokens"]]
    without = [
        Case(f"{case.name}, token forbidden", {**case.values, "forbid": True}, token=True, without_token=case.name)
        for case in plain
    ]
    return [*plain, *without]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    count, forbid = case.values["count"], case.values["forbid"]
    return answers(
        target,
        target.facts,
        given=lambda fact: first_tokens(target, fact, count),
        part_of_answer=True,
        forbid=forbid,
    )
