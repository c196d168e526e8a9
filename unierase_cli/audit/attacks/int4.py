"""Weights rounded to int4, one scale per group of inputs: the grid of GPTQ and AWQ, unoptimised (audit, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.weights import changed
from unierase_cli.models.quantise import int4

CLASS, PRESET, VERSION = "weights", "quick", 2
# How many neighbouring inputs share a scale.
SETTINGS: Mapping[str, Any] = {"group": 128}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [
        Case("asymmetric", {"symmetric": False, "head": False}),
        Case("symmetric", {"symmetric": True, "head": False}),
        Case("asymmetric with head", {"symmetric": False, "head": True}),
    ]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    group, symmetric = settings["group"], case.values["symmetric"]
    with changed(
        target.loaded, lambda _name, weight: int4(weight, group, symmetric=symmetric), head=case.values["head"]
    ):
        yield from answers(target, target.facts, probability=True)
        yield from answers(target, target.kept, split=RETAIN)
