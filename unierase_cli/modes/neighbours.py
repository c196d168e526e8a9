"""Neighbours of a single fact: which of them are asked after it is forgotten, and which the method is told to leave as they are.

The two never overlap: what is reported of neighbours is of rows that the method has not seen, wherever there are such.
"""

from __future__ import annotations

from collections.abc import Iterable

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, evenly_spaced, normalised


def held_neighbours(benchmark: Benchmark, fact: Fact, config: ModeConfig) -> tuple[Fact, ...]:
    """At most ``mode.hold`` of the forget set's other facts of the same group, else subject, at equal distances.

    No more than two thirds of them: how many are asked does not change the edit, so some must be left to ask. Rows of other
    splits are none: what no method is to see stays unseen.
    """
    others = _neighbours(fact, benchmark.forget)
    return evenly_spaced(others, min(config.hold, 2 * len(others) // 3))


def asked_neighbours(benchmark: Benchmark, fact: Fact, config: ModeConfig) -> tuple[Fact, ...]:
    """At most ``mode.near`` of those that are not held, at equal distances.

    Those that a method may protect anyway are taken only where there are no others.
    """
    free, protected = _known(benchmark)
    held = {other.id for other in held_neighbours(benchmark, fact, config)}
    left = [other for other in _neighbours(fact, free) if other.id not in held]
    chosen = evenly_spaced(left or _neighbours(fact, protected), config.near)
    return tuple(benchmark.scored.get(other.id, other) for other in chosen)


def akin(fact: Fact, other: Fact) -> bool:
    """Whether both are of one group, or of one subject where there are no groups."""
    if fact.group is not None:
        return fact.group == other.group
    return fact.subject is not None and fact.subject == other.subject


def _known(benchmark: Benchmark) -> tuple[list[Fact], list[Fact]]:
    """Facts that methods do not see, as they are scored if they are, and those that they may."""
    protected = {fact.id: fact for fact in benchmark.protect}
    splits = [fact for rows in benchmark.splits.values() for fact in rows]
    free = {fact.id: fact for fact in (*benchmark.forget, *splits) if fact.id not in protected}
    return list(free.values()), list(protected.values())


def _neighbours(fact: Fact, among: Iterable[Fact]) -> list[Fact]:
    question = normalised(fact.question)
    return [other for other in among if akin(fact, other) and normalised(other.question) != question]
