"""How a forget set is divided into requests (group ``mode``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class ModeConfig:
    """How a forget set is divided into requests."""

    name: str = "batch"
    """How the forget set is divided into requests: batch (all at once), sequential (one after another) or precise (each
    fact on its own).
    """
    step_size: int | None = None
    """sequential: facts per request (the last one may have fewer). Without this and mode.steps there are ten requests."""
    steps: int | None = None
    """sequential: number of requests that the forget set is divided into, or that are taken from mode.tasks."""
    tasks: str | None = field(default=None, metadata=BY_CONTENT)
    """sequential: file of requests that replaces benchmark.split: JSON Lines of {"suite", "task_id", "facts": [ids]}, or
    TOFU's continual tasks (with `full_index` instead of `facts`).
    """
    suite: str | None = None
    """sequential: the suite of mode.tasks to use, if the file has several."""
    leave_out: list[int] = field(default_factory=list)
    """sequential: steps (from 0) to leave out as if they had never been requested. Their facts are still scored."""
    reference: str = "previous"
    """sequential: reference model of a gradient method, previous (the model after the previous step) or original. With
    unlearn.rehearsal it is always the original model.
    """
    retain: str = "protected"
    """sequential: examples that a gradient method may retain, protected (only examples that are never forgotten) or
    later (also examples of later requests).
    """
    facts: list[str] = field(default_factory=list)
    """precise: ids of the facts, each forgotten on its own. Empty: the forget set."""
    limit: int = 0
    """precise: maximum number of facts of the forget set (the first ones). 0: all."""
    near: int = field(default=5, metadata=BY_CONTENT)
    """precise: maximum number of neighbours (same group, else same subject) asked before and after."""
    far: int = field(default=20, metadata=BY_CONTENT)
    """precise: maximum number of far facts asked before and after."""
    hold: int = field(default=12, metadata=BY_CONTENT)
    """precise: maximum number of further neighbours that the method must preserve and that are never asked. 0: none."""

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
            raise UserError(f"mode.step_size and {other} both divide the forget set", "give one of them")
        if self.suite is not None and self.tasks is None:
            raise UserError(f"mode.suite={self.suite} needs a task file", "add mode.tasks=FILE")
        if self.facts and self.limit:
            raise UserError("mode.facts and mode.limit both choose the facts", "give one of them")
