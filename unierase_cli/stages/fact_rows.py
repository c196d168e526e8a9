"""What is asked when a single fact is forgotten: the fact, its neighbours, and facts that have nothing to do with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from unierase_cli.benchmarks.base import evenly_spaced
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Benchmark, Fact, normalised
from unierase_cli.stages.base import benchmark_of
from unierase_cli.stages.planning import plan_of

FACT, NEAR, FAR = "fact", "near", "far"


@dataclass(frozen=True)
class FactRows:
    """The rows of one step. ``near``: facts of the same group, else of the same subject; ``far``: of other groups."""

    step: int
    fact: Fact
    near: tuple[Fact, ...]
    far: tuple[Fact, ...]

    def all(self) -> list[tuple[str, Fact]]:
        """Every row with its role, the fact itself first."""
        return [(FACT, self.fact), *((NEAR, fact) for fact in self.near), *((FAR, fact) for fact in self.far)]


def fact_rows(experiment: Experiment) -> list[FactRows]:
    """The rows of every fact that is forgotten on its own; of neighbours and far facts ``mode.near`` and ``mode.far`` at most.

    Neighbours that a method may protect are taken only where there are no others. Far facts are evenly spaced rows that no method
    sees, where the benchmark has such.
    """
    benchmark = benchmark_of(experiment)
    scored = {fact.id: fact for fact in benchmark.splits["forget"]}
    free, protected = _known(benchmark)
    distant = benchmark.splits.get("retain_unseen") or benchmark.splits.get("world_facts") or benchmark.protect
    found = []
    for step in plan_of(experiment):
        fact = scored.get(step.forget[0].id, step.forget[0])
        near = _neighbours(fact, free) or _neighbours(fact, protected)
        far = [other for other in distant if not _akin(fact, other) and other.id != fact.id]
        mode = experiment.mode
        found.append(FactRows(step.index, fact, _some(near, mode.near), _some(far, mode.far)))
    return found


def _known(benchmark: Benchmark) -> tuple[list[Fact], list[Fact]]:
    """Facts that methods do not see, as they are scored if they are, and those that they may."""
    protected = {fact.id: fact for fact in benchmark.protect}
    splits = [fact for rows in benchmark.splits.values() for fact in rows]
    free = {fact.id: fact for fact in (*benchmark.forget, *splits) if fact.id not in protected}
    return list(free.values()), list(protected.values())


def _neighbours(fact: Fact, among: Iterable[Fact]) -> list[Fact]:
    question = normalised(fact.question)
    return [other for other in among if _akin(fact, other) and normalised(other.question) != question]


def _akin(fact: Fact, other: Fact) -> bool:
    if fact.group is not None:
        return fact.group == other.group
    return fact.subject is not None and fact.subject == other.subject


def _some(facts: Iterable[Fact], count: int) -> tuple[Fact, ...]:
    found = tuple(facts)
    return evenly_spaced(found, count) if count else ()
