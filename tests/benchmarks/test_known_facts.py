"""How the facts that a model knows are shared out."""

from __future__ import annotations

import pytest

from unierase_cli.benchmarks.parts.known_facts import Shared, share_out
from unierase_cli.contracts import Fact, UserError


def facts(groups: int, each: int) -> list[Fact]:
    return [Fact(f"{g}-{n}", f"Question {n} of {g}?", f"a{n}", group=f"group {g}") for g in range(groups) for n in range(each)]


def shared(known: list[Fact], seed: int = 0, **changes: object) -> Shared:
    settings = {"count": 6, "unseen_share": 0.25, "near_groups": 2, **changes}
    return share_out(known, seed=seed, **settings)  # type: ignore[arg-type]


def groups_of(some: tuple[Fact, ...]) -> set[str | None]:
    return {fact.group for fact in some}


def test_every_fact_has_one_role() -> None:
    known = facts(10, 5)
    roles = shared(known)
    together = [*roles.forget, *roles.protect, *roles.near, *roles.unseen]
    assert sorted(fact.id for fact in together) == sorted(fact.id for fact in known)
    assert len(roles.forget) == 6


def test_at_most_half_of_a_group_is_forgotten_and_the_rest_are_its_neighbours() -> None:
    roles = shared(facts(10, 5))
    assert groups_of(roles.near) <= groups_of(roles.forget)
    assert len(groups_of(roles.forget)) == 3
    # Nine facts of the three groups are left: every second one is scored.
    assert len(roles.near) == 4


def test_groups_that_no_method_sees_are_held_out_whole() -> None:
    roles = shared(facts(11, 4))
    assert len(groups_of(roles.unseen)) == 2
    assert not groups_of(roles.unseen) & (groups_of(roles.forget) | groups_of(roles.protect) | groups_of(roles.near))


def test_the_seed_decides_what_is_forgotten_and_the_order_of_the_rows_does_not() -> None:
    known = facts(10, 5)
    forgotten = {fact.id for fact in shared(known).forget}
    assert forgotten == {fact.id for fact in shared(known[::-1]).forget}
    assert forgotten != {fact.id for fact in shared(known, seed=1).forget}


def test_given_groups_are_forgotten_whole_and_groups_like_them_are_the_neighbours() -> None:
    roles = shared(facts(8, 4), groups=["group 2", "group 5"])
    assert groups_of(roles.forget) == {"group 2", "group 5"}
    assert len(roles.forget) == 8
    assert len(groups_of(roles.near)) == 2
    with pytest.raises(UserError, match="the model knows no fact of the group 'rivers'") as caught:
        shared(facts(2, 2), groups=["rivers"])
    assert "group 0, group 1" in caught.value.hint


def test_facts_without_groups_can_be_forgotten_too() -> None:
    alone = [Fact(str(n), f"Question {n}?", "a") for n in range(20)]
    roles = shared(alone, count=5)
    assert len(roles.forget) == 5
    assert roles.unseen
    assert roles.near
