"""No attack: the plain question, greedy; what every attack is compared with, and what is asked of the retained rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import PLAIN, RETAIN, Case, Row, Target

CLASS, PRESET, VERSION = "prompts", "quick", 2
SETTINGS: Mapping[str, Any] = {}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case(PLAIN)]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    yield from answers(target, target.facts, probability=True)
    yield from answers(target, target.kept, split=RETAIN)
