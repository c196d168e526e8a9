"""What an audit found along a line, for tables and pictures: recall while a model relearns, depth by block, rounding by matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.audit.intervals import Interval


@dataclass(frozen=True)
class Point:
    """The mean over the facts ``at`` a step or epoch, with its 95 % interval over groups, None for a single group."""

    at: float
    mean: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Curve:
    """Recall of facts that are asked while a model is trained on others; 0 is before training.

    ``unit``: of ``at``. ``control``, ``ceiling``: the same of a model that never had the facts, and of the unedited one; empty
    where there is none. ``level``: half of what the unedited model says before training. ``reached``: which of the three got there,
    and when. ``faster``: log2 of the control's time over the unlearned model's, None where this did not get there; ``at_least``:
    the control did not, so that it is a lower bound.
    """

    attack: str
    setting: str
    unit: str
    unlearned: list[Point]
    control: list[Point] = field(default_factory=list)
    ceiling: list[Point] = field(default_factory=list)
    level: float | None = None
    reached: dict[str, float] = field(default_factory=dict)
    faster: float | None = None
    at_least: bool = False


@dataclass(frozen=True)
class Block:
    """Depth in one block, over the ``n`` facts that it encodes. ``intact``: share that is left.

    ``lost_by_control``, ``lost``: nats per token that the unedited model loses with the control's states in this block, and with
    this model's; None of attacks that have no such numbers.
    """

    attack: str
    setting: str
    block: int
    n: int
    intact: float
    lost_by_control: float | None = None
    lost: float | None = None


@dataclass(frozen=True)
class Rounded:
    """What rounding makes of the edit of one matrix. ``undone``: share of the edited weights that are rounded to what the unedited
    ones are. ``largest``: the largest change over the largest step between two rounded values.
    """

    setting: str
    matrix: str
    undone: float
    largest: float
