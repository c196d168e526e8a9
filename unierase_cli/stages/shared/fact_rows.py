"""The rows asked when a single fact is forgotten: the fact, its neighbours, and unrelated facts."""

from __future__ import annotations

from dataclasses import dataclass

from unierase_cli.contracts import Fact, evenly_spaced
from unierase_cli.modes.neighbours import akin, asked_neighbours
from unierase_cli.pipeline.study import Study

FACT, NEAR, FAR = "fact", "near", "far"


@dataclass(frozen=True)
class FactRows:
    """The rows of one step; ``near``: facts of the same group, else of the same subject; ``far``: of other groups."""

    step: int
    fact: Fact
    near: tuple[Fact, ...]
    far: tuple[Fact, ...]

    def all(self) -> list[tuple[str, Fact]]:
        """Every row with its role, the fact itself first."""
        return [(FACT, self.fact), *((NEAR, fact) for fact in self.near), *((FAR, fact) for fact in self.far)]


def fact_rows(study: Study) -> list[FactRows]:
    """The rows of every fact that is forgotten on its own, with at most ``mode.near`` neighbours and ``mode.far`` far facts.

    Far facts are evenly spaced rows, which no method sees if the benchmark has such rows.
    """
    benchmark, mode = study.benchmark, study.experiment.mode
    distant = benchmark.splits.get("retain_unseen") or benchmark.splits.get("world_facts") or benchmark.protect
    found = []
    for step in study.steps:
        fact = benchmark.scored.get(step.forget[0].id, step.forget[0])
        far = [other for other in distant if not akin(fact, other) and other.id != fact.id]
        near = asked_neighbours(benchmark, fact, mode)
        found.append(FactRows(step.index, fact, near, evenly_spaced(far, mode.far)))
    return found
