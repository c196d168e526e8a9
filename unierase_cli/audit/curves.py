"""Recall while models relearn, and how soon they are half-way back (spec: audit, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2

from unierase_cli.audit.numbers import interval_of, mean
from unierase_cli.audit.series import Curve, Point

# Part of the unedited model's recall before training that has to come back.
PART = 0.5
UNLEARNED, CONTROL, CEILING = "unlearned", "control", "ceiling"
# Step or epoch -> fact -> its recall.
Looks = Mapping[float, Mapping[str, float]]


def when(at: str) -> tuple[float, str] | None:
    """Number and unit of a look that is called "50 steps" or "1 epoch"; None for anything else."""
    number, _, unit = at.partition(" ")
    plural = unit if unit.endswith("s") else f"{unit}s"
    return (float(number), plural) if number.isdecimal() and plural in ("steps", "epochs") else None


def curve(attack: str, setting: str, unit: str, looks: Mapping[str, Looks], groups: Mapping[str, str]) -> Curve | None:
    """The curve of UNLEARNED, CONTROL and CEILING, those of them that there are; None where nothing was asked more than once."""
    lines = {model: _line(some, groups) for model, some in looks.items()}
    unlearned = lines.get(UNLEARNED, [])
    if len(unlearned) < 2:
        return None
    control, ceiling = lines.get(CONTROL, []), lines.get(CEILING, [])
    level = PART * ceiling[0].mean if ceiling and ceiling[0].at == 0 else None
    reached: dict[str, float] = {}
    faster, at_least = None, False
    if level is not None:
        times = {model: reaches(line, level) for model, line in lines.items() if line}
        reached = {model: time for model, time in times.items() if time is not None}
        own, other = reached.get(UNLEARNED), reached.get(CONTROL)
        if own and control:
            at_least = other is None
            faster = log2((control[-1].at if other is None else other) / own) if other != 0 else None
    return Curve(attack, setting, unit, unlearned, control, ceiling, level, reached, faster, at_least)


def reaches(line: Sequence[Point], level: float) -> float | None:
    """When a line first reaches a level, between two looks in proportion; None where it does not."""
    if line and line[0].mean >= level:
        return line[0].at
    for before, after in pairwise(line):
        if after.mean >= level:
            return before.at + (after.at - before.at) * (level - before.mean) / (after.mean - before.mean)
    return None


def _line(looks: Looks, groups: Mapping[str, str]) -> list[Point]:
    return [Point(at, mean(list(of.values())), interval_of(of, groups)) for at, of in sorted(looks.items()) if of]
