"""Weights rounded to NF4, one scale per block of weights: QLoRA's data type without double quantisation (audit, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.asking import answers
from unierase_cli.audit.base import RETAIN, Case, Row, Target
from unierase_cli.audit.weights import changed
from unierase_cli.models.quantise import nf4

CLASS, PRESET, VERSION = "weights", "quick", 2
# How many consecutive weights share a scale.
SETTINGS: Mapping[str, Any] = {"block": 64}


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return [Case("blocks", {"head": False}), Case("blocks and head", {"head": True})]


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    with changed(target.loaded, lambda _name, weight: nf4(weight, settings["block"]), head=case.values["head"]):
        yield from answers(target, target.facts, probability=True)
        yield from answers(target, target.kept, split=RETAIN)
