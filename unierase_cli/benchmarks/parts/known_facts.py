"""Splits the facts that a model knows: to forget, to protect, neighbours to score, and facts that no method sees."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unierase_cli.benchmarks.parts.neighbours import by_group, group_key, nearest_groups
from unierase_cli.contracts import Fact, UserError, stable_hash


@dataclass(frozen=True)
class Shared:
    """The role of every fact; all but ``forget`` are kept, and ``unseen`` consists of whole groups that no method sees."""

    forget: tuple[Fact, ...]
    protect: tuple[Fact, ...]
    near: tuple[Fact, ...]
    unseen: tuple[Fact, ...]


def share_out(
    facts: Sequence[Fact], *, count: int, groups: Sequence[str] = (), unseen_share: float, near_groups: int, seed: int
) -> Shared:
    """``count`` of the facts to forget, or all of the given ``groups``, and roles for the rest.

    As long as there are other groups, at most half of a group is forgotten, so that forgotten facts have neighbours. Of
    the rest of those groups, every second fact is protected and the others are scored as near; if nothing is left of
    them, the same is done with the ``near_groups`` most similar groups. ``unseen_share`` of the other groups are held
    out. Raises UserError for a group without facts.
    """
    chosen = _of_groups(facts, groups) if groups else _drawn(facts, count, seed)
    forget = [fact for fact in facts if fact.id in chosen]
    kept = [fact for fact in facts if fact.id not in chosen]
    touched = {group_key(fact) for fact in forget}
    beside = [fact for fact in kept if group_key(fact) in touched]
    if not beside and kept and near_groups:
        alike = set(nearest_groups(forget, kept, near_groups))
        beside = [fact for fact in kept if group_key(fact) in alike]
    near = beside[1::2]
    taken = {fact.id for fact in (*forget, *near)}
    unseen = held_out(kept, touched | {group_key(fact) for fact in beside}, unseen_share, seed)
    taken |= {fact.id for fact in unseen}
    protect = [fact for fact in facts if fact.id not in taken]
    return Shared(tuple(forget), tuple(protect), tuple(near), tuple(unseen))


def held_out(retain: Sequence[Fact], touched: Collection[str], share: float, seed: int) -> list[Fact]:
    """The facts of a share of the groups, drawn by a stable hash; ``touched`` groups are never drawn."""
    keys = [key for key in by_group(retain) if key not in touched]
    keys.sort(key=lambda key: stable_hash(seed, "retain_unseen", key))
    chosen = set(keys[: round(len(keys) * share)])
    return [fact for fact in retain if group_key(fact) in chosen]


def _of_groups(facts: Sequence[Fact], groups: Sequence[str]) -> set[str]:
    known = {fact.group for fact in facts if fact.group is not None}
    for name in groups:
        if name not in known:
            there = f"groups with known facts: {', '.join(sorted(known))}" if known else "none of the facts has a group"
            raise UserError(f"the model knows no fact of the group {name!r}", there)
    return {fact.id for fact in facts if fact.group in groups}


def _drawn(facts: Sequence[Fact], count: int, seed: int) -> set[str]:
    """Ids of ``count`` facts: half of one group after the other, then the rest of them if needed."""
    groups = by_group(facts)
    first: list[str] = []
    second: list[str] = []
    for key in sorted(groups, key=lambda key: stable_hash(seed, "forget group", key)):
        ids = sorted((fact.id for fact in groups[key]), key=lambda name: stable_hash(seed, "forget", name))
        half = len(ids) // 2
        first += ids[:half]
        second += ids[half:]
    return set([*first, *second][:count])
