"""What every block says about the facts through the unedited model's norm and head: 1 - logit lens score (depth, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.inside import BOTH_PROMPTS, depth_rows, look_inside
from unierase_cli.representation.lens import lens_depth

CLASS, PRESET, VERSION = "inside", "standard", 2
# As in uds; the last block is always taken before the final norm.
SETTINGS: Mapping[str, Any] = {"threshold": 0.05, "tokenisation": "joint", "batch_tokens": 2048}
ENTITIES = True
NEEDS = ("control", "ceiling")
SCORE, RELATIVE = "intact", True


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return BOTH_PROMPTS


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    inside = look_inside(target, {**settings, "last_block": "raw"}, case.values["style"])
    of = (inside.of_full, inside.of_retain, inside.of_unlearned)
    depth = lens_depth(inside.full, inside.rows, *of, threshold=settings["threshold"])
    return depth_rows(target, inside, depth, settings["threshold"])
