"""Masked Fisher: squared gradients in the weights that held the facts: 1 - erasure (depth, section 7).

One number of all facts together, so it has no interval and decides nothing; a baseline of UDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.inside import BOTH_PROMPTS, comparable_rows, erasure_rows
from unierase_cli.representation.fisher import block_fisher, fisher_erasure

CLASS, PRESET, VERSION = "inside", "thorough", 1
# tokenisation: as in uds. share: of a block's weights, those in which control and unedited model differ most.
SETTINGS: Mapping[str, Any] = {"tokenisation": "joint", "share": 0.001}
ENTITIES = True
NEEDS = ("control", "ceiling")
SCORE, RELATIVE = "intact", True


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return BOTH_PROMPTS


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    full, retain, _, rows = comparable_rows(target, settings, case.values["style"])
    found = [block_fisher(model, rows) for model in (full, retain, target.loaded)]
    return erasure_rows(target, fisher_erasure(*found, share=settings["share"]))
