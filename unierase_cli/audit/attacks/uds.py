"""What the unedited model still says with this model's hidden states in one of its blocks: 1 - UDS (depth, section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.audit.base import Case, Row, Target
from unierase_cli.audit.inside import BOTH_PROMPTS, Inside, depth_rows, look_inside, some
from unierase_cli.representation.states import States
from unierase_cli.representation.uds import check_sanity, unlearning_depth

CLASS, PRESET, VERSION = "inside", "standard", 2
# threshold: nats per token by which the control's states must hurt. tokenisation: joint or apart, last_block: raw or normed; apart
# and normed are what the reference code does.
SETTINGS: Mapping[str, Any] = {"threshold": 0.05, "tokenisation": "joint", "last_block": "raw", "batch_tokens": 2048}
ENTITIES = True
NEEDS = ("control", "ceiling")
SCORE, RELATIVE = "intact", True
# Rows on which the two ends of the scale are looked at.
CHECKED = 8


def cases(settings: Mapping[str, Any]) -> Sequence[Case]:
    return BOTH_PROMPTS


def run(target: Target, case: Case, settings: Mapping[str, Any]) -> Iterable[Row]:
    inside = look_inside(target, settings, case.values["style"])
    if settings["last_block"] == "raw":
        _check(inside, settings)
    depth = unlearning_depth(
        inside.full,
        inside.rows,
        inside.of_retain,
        inside.of_unlearned,
        threshold=settings["threshold"],
        batch_tokens=settings["batch_tokens"],
    )
    return depth_rows(target, inside, depth, settings["threshold"])


def _check(inside: Inside, settings: Mapping[str, Any]) -> None:
    """The unedited model must score 0 and the control 1, on a few rows."""
    picked = some(inside.rows, CHECKED)
    rows = [inside.rows[index] for index in picked]
    full, retain = (States([states.of[index] for index in picked]) for states in (inside.of_full, inside.of_retain))
    of_full, of_retain = (
        unlearning_depth(inside.full, rows, retain, own, threshold=settings["threshold"]) for own in (full, retain)
    )
    check_sanity(of_full, of_retain)
