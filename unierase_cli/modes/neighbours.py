"""Neighbours of a single fact: those that the method is asked to hold, and those that are asked after the fact is
forgotten.

The two never overlap: results on neighbours come from facts that the method has not seen, as far as there are any.
"""

from __future__ import annotations

from collections.abc import Iterable

from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, evenly_spaced, normalised


def held_neighbours(benchmark: Benchmark, fact: Fact, config: ModeConfig) -> tuple[Fact, ...]:
    """At most ``mode.hold`` of the other facts to forget of the same group (else subject), evenly spaced.

    At most two thirds are held: the number of asked neighbours must not change the edit, so some must be left to ask.
    Other splits are never used: what no method may see stays unseen.
    """
    others = _neighbours(fact, benchmark.forget)
    return evenly_spaced(others, min(config.hold, 2 * len(others) // 3))


def asked_neighbours(benchmark: Benchmark, fact: Fact, config: ModeConfig) -> tuple[Fact, ...]:
    """At most ``mode.near`` of the neighbours that are not held, evenly spaced.

    Neighbours that a method may protect are used only if there are no others.
    """
    free, protected = _known(benchmark)
    held = {other.id for other in held_neighbours(benchmark, fact, config)}
    left = [other for other in _neighbours(fact, free) if other.id not in held]
    chosen = evenly_spaced(left or _neighbours(fact, protected), config.near)
    return tuple(benchmark.scored.get(other.id, other) for other in chosen)


def akin(fact: Fact, other: Fact) -> bool:
    """Whether both facts have the same group, or the same subject if there are no groups."""
    if fact.group is not None:
        return fact.group == other.group
    return fact.subject is not None and fact.subject == other.subject


def _known(benchmark: Benchmark) -> tuple[list[Fact], list[Fact]]:
    """Facts that methods do not see (in their scored form, if scored), and facts that they may see."""
    protected = {fact.id: fact for fact in benchmark.protect}
    splits = [fact for rows in benchmark.splits.values() for fact in rows]
    free = {fact.id: fact for fact in (*benchmark.forget, *splits) if fact.id not in protected}
    return list(free.values()), list(protected.values())


def _neighbours(fact: Fact, among: Iterable[Fact]) -> list[Fact]:
    question = normalised(fact.question)
    return [other for other in among if akin(fact, other) and normalised(other.question) != question]
