"""Attacks on hidden states: what is left, between a model without the facts and the unedited one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.attacked import attack, target
from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from unierase_cli.audit.base import Row
from unierase_cli.audit.mentions import entity_lines
from unierase_cli.contracts import UserError
from unierase_cli.models.interpolation import moved_towards

NAMES = ("uds", "logit_lens")
ANY = {"threshold": 0.0}


def intact(rows: list[Row]) -> list[float]:
    return [row.scores["intact"] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_all_is_left_in_the_unedited_model_and_nothing_in_the_control(name: str) -> None:
    for case in ("plain prompt", "prompt of the run"):
        full, none = (attack(name, target(tiny_llama(seed=seed)), case, **ANY) for seed in (0, 1))
        assert [row.fact for row in full] == [fact.id for fact in FACTS[:4]]
        assert set(intact(full)) == {1.0}
        assert set(intact(none)) == {0.0}
        shares = {name for row in full + none for name in row.scores if name.startswith(("intact", "block"))}
        assert shares <= {"intact", *(f"block {i}" for i in range(4))}
        assert all(0 <= row.scores.get(name, 0.0) <= 1 for row in full + none for name in shares)
        for row, left in [*((row, 0.0) for row in full), *((row, 1.0) for row in none)]:
            of = {name.rpartition(" ")[2] for name in row.scores if name != "intact"}
            assert all(row.scores[f"lost in {b}"] == left * row.scores[f"lost by the control in {b}"] for b in of)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_between_both_is_between_them(name: str) -> None:
    loaded = tiny_llama(seed=0)
    with moved_towards(loaded, tiny_llama(seed=1), 0.2):
        values = intact(attack(name, target(loaded), **ANY))
    assert 0 < sum(values) / len(values) < 1


def test_entities_of_a_file_are_used_and_what_has_none_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "entities.jsonl"
    fact = FACTS[0]
    name = fact.subject
    lines = [
        f'{{"question": "{fact.question}", "prefix": "{name} was born in", "entity": "{fact.answer.split()[-1]}"}}',
        f'{{"question": "{FACTS[1].question}", "prefix": "{name} writes", "entity": "nothing at all"}}',
    ]
    path.write_text("\n".join(lines), "utf-8")
    under = target(tiny_llama(seed=2), entities=entity_lines(str(path)))
    (row,) = attack("uds", under, **ANY)
    assert (row.fact, row.given, row.reference) == (fact.id, f"{name} was born in", fact.answer.split()[-1])
    notes = " ".join(under.reporter.notes)  # type: ignore[attr-defined]
    assert "2 of 4 facts are not in the file of entities" in notes
    assert "1 of 4 facts have an answer without their entity" in notes


@pytest.mark.parametrize("name", ["cka", "fisher"])
def test_a_score_of_all_facts_together_is_one_row(name: str) -> None:
    of_full, of_control = (attack(name, target(tiny_llama(seed=seed))) for seed in (0, 1))
    assert [row.fact for row in of_full + of_control] == ["all facts"] * 2
    assert intact(of_full) == pytest.approx([1.0], abs=1e-4)
    assert intact(of_control) == pytest.approx([0.0], abs=1e-4)
    assert set(of_full[0].scores) == {"intact", *(f"block {block}" for block in range(4))}
    alike = target(tiny_llama(), control=lambda: tiny_llama(seed=0))
    if name == "fisher":
        assert attack(name, alike) == []
        assert "cannot be told apart" in alike.reporter.notes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*NAMES, "cka", "fisher"])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"control": None}, "need the unedited model and a control"),
        (
            {"control": lambda: tiny_llama(num_hidden_layers=3)},
            "the control has 3 blocks of width 32, the unedited model 4 blocks",
        ),
        ({"control": lambda: tiny("gpt2")}, "the control makes other tokens of the facts"),
    ],
)
def test_models_that_cannot_be_compared_are_refused_in_one_line(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        attack(name, target(tiny_llama(), **more))


@pytest.mark.parametrize("settings", [{"tokenisation": "both"}, {"threshold": -1.0}])
def test_settings_that_mean_nothing_are_refused_in_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(settings))}|negative"):
        attack("uds", target(tiny_llama(seed=2)), **settings)


def test_facts_that_no_block_encodes_have_no_row_and_are_counted() -> None:
    under = target(tiny_llama(seed=2))
    assert attack("logit_lens", under, threshold=100.0) == []
    assert "4 of 4 facts are not encoded in any block" in under.reporter.notes[0]  # type: ignore[attr-defined]


def test_a_probe_scores_facts_by_blocks_and_alike_in_every_run() -> None:
    under = target(tiny_llama(seed=2), facts=8)
    rows = attack("probe", under)
    assert [row.fact for row in rows] == [fact.id for fact in FACTS]
    for row in rows:
        blocks = [row.scores[f"block {block}"] for block in range(4)]
        assert row.scores["probe"] == pytest.approx(sum(blocks) / 4)
        assert set(blocks) <= {0.0, 1.0}
    assert attack("probe", under) == rows
    few = target(tiny_llama(seed=2))
    assert attack("probe", few) == []
    assert "there are 4" in few.reporter.warnings[0]  # type: ignore[attr-defined]
