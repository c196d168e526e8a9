"""Relearning: what is trained on is never asked, and the model is given back as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.audits import FORGET, KEEP, knowing, target
from unierase_cli.audit import relearning
from unierase_cli.audit.attacks import relearn_all, relearn_benign, relearn_groups, relearn_part
from unierase_cli.audit.base import Row, Target
from unierase_cli.audit.relearning import Training, relearned
from unierase_cli.audit.scores import by_fact
from unierase_cli.audit.splits import folds
from unierase_cli.contracts import Fact, UserError
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.store.jsonl import write_jsonl
from unierase_cli.training.supervised import Example, answer_loss

SETTINGS = {**relearn_part.SETTINGS, "least": 2, "percent": [25], "lr": [5e-3], "lora_lr": [5e-3], "steps": [4, 2], "batch": 2}


@pytest.fixture(scope="module")
def retained() -> LoadedModel:
    return knowing(KEEP)


@pytest.fixture
def attacked(retained: LoadedModel) -> Iterator[Target]:
    """A model that must be the same to the bit when a test ends."""
    before = {name: value.clone() for name, value in retained.model.state_dict().items()}
    yield target(retained)
    after = retained.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert not any(parameter.requires_grad for parameter in retained.model.parameters())


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Every sequence that any training is given."""
    found: list[tuple[int, ...]] = []
    own = relearning.Answers

    def answers(loaded: LoadedModel, examples: object, *rest: object) -> object:
        found.extend((*e.prompt_ids, *e.answer_ids) for e in examples(0))  # type: ignore[operator]
        return own(loaded, examples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(relearning, "Answers", answers)
    return found


def ids(target: Target, facts: list[Fact]) -> set[tuple[int, ...]]:
    prompts = target.loaded.prompts
    return {(*prompts.prompt(fact.question).ids, *prompts.answer_ids(fact.answer)) for fact in facts}


def rows_of(attack: object, target: Target, settings: dict, number: int = 0) -> list[Row]:
    return list(attack.run(target, attack.cases(settings)[number], settings))  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [0, 1], ids=["all weights", "LoRA"])
def test_no_fact_that_is_asked_is_ever_trained_on(attacked: Target, taught: list[tuple[int, ...]], number: int) -> None:
    rows = rows_of(relearn_part, attacked, SETTINGS, number)
    asked = {row.fact for row in rows if row.split == "forget"}
    assert taught
    assert not set(taught) & ids(attacked, [fact for fact in FORGET if fact.id in asked])
    trained = {row.fact for row in rows if row.split == "trained"}
    assert len(trained) == 2
    assert trained | asked == {fact.id for fact in FORGET}
    assert not trained & asked


def test_harmless_training_holds_no_fact_that_was_to_be_forgotten(attacked: Target, taught: list[tuple[int, ...]]) -> None:
    beside = Fact("beside", "Which colour has Ada Velour's coat?", "Mostly blue.", group=FORGET[0].group)
    alone = Fact("alone", "Where is the sea?", "Near Porto.")
    ungrouped = [*attacked.forgotten, Fact("forgotten alone", "Where is the river?", "Near Quito.")]
    mixed = replace(attacked, material=[*KEEP[4:], *FORGET[:2], beside, alone], forgotten=ungrouped)
    settings = {**relearn_benign.SETTINGS, "examples": [6], "batch": 2}
    rows = rows_of(relearn_benign, mixed, settings)
    assert set(taught) == ids(attacked, [*KEEP[4:], alone])
    assert {row.at for row in rows} == {"3 steps"}
    assert "trains on 5 facts: there are no 6" in mixed.reporter.notes[0]  # type: ignore[attr-defined]
    assert {row.fact for row in rows if row.split == "forget"} == {fact.id for fact in FORGET}


def test_harmless_training_without_harmless_facts_is_left_out(attacked: Target) -> None:
    none = replace(attacked, material=FORGET[:2])
    assert rows_of(relearn_benign, none, dict(relearn_benign.SETTINGS)) == []
    assert "left out" in none.reporter.warnings[0]  # type: ignore[attr-defined]


def test_the_headline_look_comes_first_with_what_is_kept(attacked: Target) -> None:
    rows = rows_of(relearn_part, attacked, SETTINGS)
    assert list(dict.fromkeys(row.at for row in rows)) == ["4 steps", "2 steps"]
    assert {row.at for row in rows if row.split == "retain"} == {"4 steps"}
    assert {row.fact for row in rows if row.split == "retain"} == {fact.id for fact in attacked.kept}


def test_training_learns_what_it_is_given(attacked: Target) -> None:
    rows = relearned(attacked, FORGET[:2], FORGET[2:4], Training(5e-3, {30: "end"}, 2, True))
    found = by_fact(row for row in rows if row.split == "trained")
    assert min(found.values()) == 1.0


def test_a_fact_that_says_the_same_as_a_learned_one_is_not_asked(attacked: Target) -> None:
    twin = replace(FORGET[0], id="twin")
    rows = relearned(attacked, FORGET[:1], [twin, FORGET[2]], Training(1e-4, {1: "end"}, 1, True))
    assert {row.fact for row in rows if row.split == "forget"} == {FORGET[2].id}


def test_one_epoch_on_all_facts_asks_the_same_facts(attacked: Target, taught: list[tuple[int, ...]]) -> None:
    settings = {**relearn_all.SETTINGS, "lr": [5e-3], "lora_lr": [], "batch": 4}
    rows = rows_of(relearn_all, attacked, settings)
    assert {row.fact for row in rows if row.split == "forget"} == {fact.id for fact in attacked.facts}
    assert set(taught) == ids(attacked, list(attacked.facts))
    assert {row.at for row in rows} == {f"{-(-len(attacked.facts) // 4)} steps"}, "each fact once"


def test_out_of_memory_leaves_the_model_alone_and_suggests_adapters(attacked: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(relearning, "fit", full)
    with pytest.raises(UserError, match="leaves LoRA"):
        rows_of(relearn_part, attacked, SETTINGS)


def test_a_model_that_is_too_large_is_trained_with_adapters_alone(attacked: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "LARGEST_WHOLE", 1000)
    assert rows_of(relearn_part, attacked, SETTINGS) == []
    assert "billion parameters" in attacked.reporter.notes[0]  # type: ignore[attr-defined]
    assert rows_of(relearn_part, attacked, SETTINGS, 1)


def test_rates_and_parts_are_changed_one_at_a_time() -> None:
    names = [case.name for case in relearn_part.cases(relearn_part.SETTINGS)]
    assert names == [
        "10 %, all weights, lr 1e-05", "10 %, all weights, lr 0.0001", "10 %, LoRA, lr 0.0001", "25 %, all weights, lr 1e-05",
        "10 %, all weights, lr 1e-05, token rows frozen",
    ]  # fmt: skip


GROUPS = {**relearn_groups.SETTINGS, "folds": 2, "lr": [5e-3], "lora_lr": [], "epochs": [2, 1], "warmup": 2, "batch": 2}


@pytest.mark.parametrize(("number", "together"), [(0, True), (2, False)], ids=["other groups", "same groups"])
def test_a_fold_is_asked_by_a_model_that_learned_the_others(
    attacked: Target, taught: list[tuple[int, ...]], number: int, together: bool
) -> None:
    rows = rows_of(relearn_groups, attacked, {**GROUPS, "tested": 1}, number)
    asked = [fact for fact in FORGET if fact.id in {row.fact for row in rows if row.split == "forget"}]
    assert len(asked) == 4
    assert set(taught) == ids(attacked, [fact for fact in FORGET if fact not in asked])
    learned_groups = {fact.group for fact in FORGET if fact not in asked}
    assert {fact.group in learned_groups for fact in asked} == {not together}
    assert list(dict.fromkeys(row.at for row in rows)) == ["2 epochs", "1 epoch"]


def test_every_fact_is_asked_once_over_all_folds(attacked: Target) -> None:
    rows = rows_of(relearn_groups, attacked, {**GROUPS, "tested": 0, "epochs": [1]})
    assert sorted(row.fact for row in rows if row.split == "forget") == sorted(fact.id for fact in FORGET)
    assert all(0 < row.scores["probability"] <= 1 for row in rows if row.split == "forget")


def test_facts_of_a_single_group_have_no_others_to_learn_from(attacked: Target) -> None:
    single = replace(attacked, facts=FORGET[:2])
    assert rows_of(relearn_groups, single, GROUPS) == []
    assert "single group" in single.reporter.warnings[0]  # type: ignore[attr-defined]
    assert rows_of(relearn_groups, single, GROUPS, 2), "the facts of one group can be dealt out"


@pytest.mark.parametrize(("together", "sizes"), [(True, [4, 4]), (False, [4, 4])])
def test_folds_are_of_like_size_and_hold_every_fact_once(together: bool, sizes: list[int]) -> None:
    parts = folds(FORGET, 2, 0, together=together)
    assert [len(part) for part in parts] == sizes
    assert sorted(fact.id for part in parts for fact in part) == sorted(fact.id for fact in FORGET)
    assert all({fact.group for fact in parts[0]}.isdisjoint({f.group for f in part}) is together for part in parts[1:])


def test_frozen_rows_of_the_token_stay_while_all_else_is_trained(retained: LoadedModel) -> None:
    loaded = wrap_model(copy.deepcopy(retained.model), retained.tokenizer)
    loaded.unlearn_ids[:] = [3]
    before = loaded.architecture.embedding.weight.detach().clone()
    prompt, answer = loaded.prompts.prompt(FORGET[0].question).ids, loaded.prompts.answer_ids(FORGET[0].answer)
    for frozen in (True, False):
        with relearning.trainable(loaded, True, 0) as masters, relearning.frozen_rows(loaded) if frozen else nullcontext():
            optimizer = torch.optim.AdamW(masters.tensors, lr=0.1, weight_decay=0.0)
            masters.publish()
            answer_loss(loaded, [Example([3, *prompt], answer)]).backward()
            masters.take_gradients()
            optimizer.step()
            place = next(n for n, w in enumerate(masters.weights) if w is loaded.architecture.embedding.weight)
            moved = (masters.tensors[place] != before).any(1)
            assert bool(moved[3]) is not frozen
            assert bool(moved[prompt[0]])
    assert torch.equal(loaded.architecture.embedding.weight, before)


def test_harmless_training_takes_other_data(attacked: Target, taught: list[tuple[int, ...]], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "maths.jsonl", [{"question": "What is 2 + 2?", "answer": "4."}])
    strange = [Fact("new", "Where does nobody live?", "In Atlantis.")]
    settings = {**relearn_benign.SETTINGS, "examples": [2], "lora_lr": [], "data": ["never_trained"]}
    settings["file"] = str(tmp_path / "maths.jsonl")
    under = replace(attacked, never_trained=strange)
    assert [case.name for case in relearn_benign.cases(settings)] == [
        "2 never-trained facts, all weights, lr 1e-05", "2 rows of the file, all weights, lr 1e-05",
    ]  # fmt: skip
    for number, learned in enumerate([strange, [Fact("", "What is 2 + 2?", "4.")]]):
        taught.clear()
        assert rows_of(relearn_benign, under, settings, number)
        assert set(taught) == ids(attacked, learned)
    write_jsonl(tmp_path / "maths.jsonl", [{"text": "Rain fell on the hills all night, and by noon the river was high."}])
    text = relearn_benign.harmless_facts(under, "file", settings["file"])
    assert [(fact.question, fact.answer) for fact in text] == [
        ("Rain fell on the hills all night,", " and by noon the river was high.")
    ]
    assert rows_of(relearn_benign, under, settings, 1)
    with pytest.raises(UserError, match="is no data"):
        relearn_benign.cases({**settings, "data": ["retain"]})
    write_jsonl(tmp_path / "maths.jsonl", [{"question": "What is 2 + 2?"}])
    with pytest.raises(UserError, match="maths.jsonl:1 has no question and answer"):
        rows_of(relearn_benign, under, settings, 1)
