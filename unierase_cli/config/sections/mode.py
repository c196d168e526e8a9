"""How a forget set becomes requests: all at once, one after another, or each on its own (group ``mode``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class ModeConfig:
    # As typed: batch | sequential | precise
    name: str = "batch"
    # sequential: facts of a request (the last one may have fewer), or the number of requests that the forget set is cut into;
    # neither: ten requests.
    step_size: int | None = None
    steps: int | None = None
    # sequential: a file of requests in the place of benchmark.split, JSON Lines of {"suite", "task_id", "facts": [ids]}, or TOFU's
    # continual tasks (`full_index` in the place of `facts`); mode.steps=N takes the first N of them.
    tasks: str | None = field(default=None, metadata=BY_CONTENT)
    # Which of the file's suites, if it has several.
    suite: str | None = None
    # sequential: steps (from 0) that are left out as if nobody had asked for them; what they name is still scored.
    leave_out: list[int] = field(default_factory=list)
    # sequential: what a gradient method's reference is: previous (the model as the step before left it) | original
    reference: str = "previous"
    # sequential: rows that a gradient method may retain: protected (never forgotten) | later (also those of later requests)
    retain: str = "protected"
    # precise: ids of the facts, each forgotten on its own; none named: the forget set, or its first `limit` (0: all).
    facts: list[str] = field(default_factory=list)
    limit: int = 0
    # precise: neighbours of the fact (its group, else its subject) and far facts that are asked before and after, at most.
    near: int = field(default=5, metadata=BY_CONTENT)
    far: int = field(default=20, metadata=BY_CONTENT)
    # precise: further neighbours, never asked, that the method is told to leave as they are, at most (0: none).
    hold: int = field(default=12, metadata=BY_CONTENT)

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
