"""The plan of a gradient method: which rows meet in which step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import UserError
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training import processes
from unierase_cli.training.unlearning.plan import Item, Sizes, make_plan, save_plan, with_rehearsal

CONFIG = UnlearnConfig(epochs=3, batch_size=4)
SIZES = Sizes(forget=10, retain=25, refusals=7)


def test_every_epoch_has_every_forget_row_once() -> None:
    plan = make_plan(SIZES, replace(CONFIG, batch_size=5), 0)
    assert [len(items) for items in plan] == [5] * 6
    for epoch in range(3):
        seen = [item.forget for items in plan[2 * epoch : 2 * epoch + 2] for item in items]
        assert sorted(seen) == list(range(10))


def test_steps_are_the_whole_batches_of_all_epochs() -> None:
    assert len(make_plan(SIZES, CONFIG, 0)) == 30 // 4
    assert len(make_plan(SIZES, replace(CONFIG, max_steps=2), 0)) == 2


def test_the_seed_decides_and_nothing_else() -> None:
    assert make_plan(SIZES, CONFIG, 1) == make_plan(SIZES, CONFIG, 1)
    assert make_plan(SIZES, CONFIG, 1) != make_plan(SIZES, CONFIG, 2)


def test_no_retain_row_comes_twice_in_an_epoch_while_there_are_others() -> None:
    plan = make_plan(SIZES, replace(CONFIG, batch_size=10), 0)
    for items in plan:
        assert max(Counter(item.retain for item in items).values()) == 1
    partners = [{item.forget: item.retain for item in items} for items in plan]
    assert partners[0] != partners[1], "a forget row meets other retain rows in the next epoch"


def test_fixed_pairing_meets_the_same_retain_row_in_every_epoch() -> None:
    plan = make_plan(SIZES, replace(CONFIG, batch_size=10, pairing="closer_look"), 0)
    partners = [{item.forget: (item.retain, item.refusal) for item in items} for items in plan]
    assert partners[0] == partners[1] == partners[2]


def test_alternatives_make_the_forget_set_as_much_longer() -> None:
    plan = make_plan(replace(SIZES, alternates=2), replace(CONFIG, epochs=1, batch_size=20), 0)
    assert sorted((i.forget, i.alternate) for i in plan[0]) == [(i, a) for i in range(10) for a in range(2)]


def test_a_later_request_has_the_earlier_facts_in_turn_beside_its_own() -> None:
    own = make_plan(SIZES, CONFIG, 0)
    plan = with_rehearsal(own, SIZES, 20, replace(CONFIG, rehearsal=0.5), 1)
    assert [batch[:4] for batch in plan] == own
    added = [item for batch in plan for item in batch[4:]]
    assert len(added) == 2 * len(own)
    assert {item.forget for item in added} <= set(range(10, 30))
    assert max(Counter(item.forget for item in added).values()) == 1, "no earlier fact repeats before all have occurred"
    assert len({item.retain for item in added}) > 1


def test_a_rehearsal_has_at_most_all_earlier_facts() -> None:
    plan = with_rehearsal(make_plan(SIZES, CONFIG, 0), SIZES, 3, replace(CONFIG, rehearsal=2.0), 1)
    assert all(sorted(item.forget for item in batch[4:]) == [10, 11, 12] for batch in plan)


def test_a_share_that_rounds_to_nothing_is_one_fact() -> None:
    plan = with_rehearsal(make_plan(SIZES, replace(CONFIG, batch_size=1), 0), SIZES, 3, replace(CONFIG, rehearsal=0.2), 1)
    assert all(len(batch) == 2 for batch in plan)


def test_without_a_share_or_earlier_facts_a_plan_stays_as_it_is() -> None:
    own = make_plan(SIZES, CONFIG, 0)
    assert with_rehearsal(own, SIZES, 20, CONFIG, 1) == own
    assert with_rehearsal(own, SIZES, 0, replace(CONFIG, rehearsal=1.0), 1) == own


def test_pairs_do_not_depend_on_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make_plan(SIZES, CONFIG, 0)
    shares: list[list[Item]] = []
    for rank in range(2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        assert make_plan(SIZES, CONFIG, 0) == alone
        shares.append(processes.share(alone[0]))
    assert sorted(shares[0] + shares[1], key=alone[0].index) == alone[0]


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match=r"unlearn.batch_size=11 is larger than the forget set \(10 rows\)"):
        make_plan(SIZES, replace(CONFIG, batch_size=11), 0)


def test_the_plan_is_saved_as_rows(tmp_path: Path) -> None:
    save_plan(tmp_path / "plan.jsonl", [[Item(1, 2, 3, 4)]])
    assert read_jsonl(tmp_path / "plan.jsonl") == [{"step": 0, "items": [[1, 2, 3, 4]]}]
