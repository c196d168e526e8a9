"""Are this model's hidden states nearer to the control's, by linear CKA: 1 - erasure (depth, section 7).

One number of all facts together, so it has no interval and decides nothing; a baseline of UDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.inside import BOTH_PROMPTS, erasure_rows, look_inside
from unierase_cli.representation.similarity import similarity_erasure

CLASS, PRESET, VERSION = "inside", "thorough", 1
# As in uds.
SETTINGS: Mapping[str, Any] = {"tokenisation": "joint", "batch_tokens": 2048}
ENTITIES = True
NEEDS = ("control", "ceiling")
SCORE, RELATIVE = "intact", True


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return BOTH_PROMPTS


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    inside = look_inside(target, {**settings, "last_block": "raw"}, case.values["style"])
    return erasure_rows(target, similarity_erasure(inside.of_full, inside.of_retain, inside.of_unlearned))
