"""Weights rounded to int8, one scale per row: round to nearest, a simulation without kernels (audit, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.weights import changed
from unierase_cli.models.quantise import int8

CLASS, PRESET, VERSION = "weights", "quick", 2
SETTINGS: Mapping[str, Any] = {}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("blocks", {"head": False}), Case("blocks and head", {"head": True})]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    with changed(target.loaded, lambda _name, weight: int8(weight), head=case.values["head"]):
        yield from answers(target, target.facts, probability=True)
        yield from answers(target, target.kept, split=RETAIN)
