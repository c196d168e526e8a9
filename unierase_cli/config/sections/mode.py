"""How a forget set becomes requests: all at once, one after another, or each on its own (group ``mode``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class ModeConfig:
    """How a forget set becomes requests."""

    name: str = "batch"
    """How the forget set becomes requests: batch (all at once), sequential (one after another) or precise (each fact on
    its own).
    """
    step_size: int | None = None
    """sequential: facts of a request (the last one may have fewer). With neither this nor mode.steps there are ten
    requests.
    """
    steps: int | None = None
    """sequential: number of requests that the forget set is cut into, or of those that are taken from mode.tasks."""
    tasks: str | None = field(default=None, metadata=BY_CONTENT)
    """sequential: file of requests that takes the place of benchmark.split: JSON Lines of {"suite", "task_id", "facts":
    [ids]}, or TOFU's continual tasks (with `full_index` instead of `facts`).
    """
    suite: str | None = None
    """sequential: suite of mode.tasks that is used, if the file has several."""
    leave_out: list[int] = field(default_factory=list)
    """sequential: steps (from 0) that are left out as if nobody had requested them. Their facts are still scored."""
    reference: str = "previous"
    """sequential: reference model of a gradient method, previous (as the step before left it) or original."""
    retain: str = "protected"
    """sequential: examples that a gradient method may retain, protected (those that are never forgotten) or later (also
    those of later requests).
    """
    facts: list[str] = field(default_factory=list)
    """precise: ids of the facts, each forgotten on its own. Empty: the forget set."""
    limit: int = 0
    """precise: facts of the forget set, at most: the first ones. 0: all."""
    near: int = field(default=5, metadata=BY_CONTENT)
    """precise: neighbours of the fact (of its group, else of its subject) that are asked before and after, at most."""
    far: int = field(default=20, metadata=BY_CONTENT)
    """precise: far facts that are asked before and after, at most."""
    hold: int = field(default=12, metadata=BY_CONTENT)
    """precise: further neighbours that the method must leave as they are and that are never asked, at most. 0: none."""

    def __post_init__(self) -> None:
        for key, value in (("step_size", self.step_size), ("steps", self.steps)):
            if value is not None:
                positive(f"mode.{key}", value)
        one_of("mode.reference", self.reference, ["previous", "original"])
        one_of("mode.retain", self.retain, ["protected", "later"])
        for key in ("limit", "near", "far", "hold"):
            positive(f"mode.{key}", getattr(self, key), zero=True)
        for index in self.leave_out:
            positive("mode.leave_out", index, zero=True)
        if self.step_size is not None and (self.steps is not None or self.tasks is not None):
            other = "mode.steps" if self.steps is not None else "mode.tasks"
            raise UserError(f"mode.step_size and {other} both say how the forget set is cut", "give one of them")
        if self.suite is not None and self.tasks is None:
            raise UserError(f"mode.suite={self.suite} names a part of a file that is not given", "add mode.tasks=FILE")
        if self.facts and self.limit:
            raise UserError("mode.facts and mode.limit both choose the facts", "give one of them")
