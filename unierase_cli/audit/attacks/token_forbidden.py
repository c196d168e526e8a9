"""Greedy answers with the unlearning tokens' logits at minus infinity, at every step or after the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import Case, Row, Target

CLASS, PRESET, VERSION = "prompts", "quick", 1
NEEDS = ("token",)
SETTINGS: Mapping[str, Any] = {}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("never", {"forbid": True}, token=True), Case("once at most", {"once": True}, token=True)]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    return answers(target, target.facts, **case.values)
