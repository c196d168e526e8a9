"""Facts in parts: what an attacker learns from or chooses on, and what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unierase_cli.audit.base import group_of
from unierase_cli.contracts import Fact, stable_hash


def halves(facts: Sequence[Fact], seed: int, purpose: str) -> tuple[list[Fact], list[Fact]]:
    """The facts of half of the groups, and those of the others; the first is empty for a single group."""
    groups = sorted({group_of(fact) for fact in facts})
    order = np.random.default_rng(stable_hash(seed, purpose)).permutation(len(groups))
    first = {groups[index] for index in order[: len(groups) // 2]}
    return [f for f in facts if group_of(f) in first], [f for f in facts if group_of(f) not in first]


def folds(facts: Sequence[Fact], count: int, seed: int, *, together: bool) -> list[list[Fact]]:
    """The facts in ``count`` parts of like size, none of them empty, fewer where there are fewer groups; ``together``: a group,
    whose facts give each other away, is in one part, else its facts are dealt out among all.
    """
    keys = {fact.id: group_of(fact) if together else fact.id for fact in facts}
    order = sorted(set(keys.values()), key=lambda key: stable_hash(seed, "fold", key))
    if not together:
        # One group after the other, so that every part has some of each.
        owner = {fact.id: group_of(fact) for fact in facts}
        order.sort(key=lambda key: stable_hash(seed, "fold of", owner[key]))
    place = {key: number % count for number, key in enumerate(order)}
    parts: list[list[Fact]] = [[] for _ in range(min(count, len(order)))]
    for fact in facts:
        parts[place[keys[fact.id]]].append(fact)
    return parts
