"""Attacks that only ask: what they ask, and that the model is the same afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.audits import FORGET, KEEP, PROTOCOL, hide, knowing, target
from unierase_cli.audit.attacks import (
    affirmative,
    few_shot,
    ignore_refusal,
    paraphrase,
    plain,
    prefix,
    sampling,
    token_forbidden,
)
from unierase_cli.audit.base import Row, Target, attack_names, group_of, load_attack
from unierase_cli.audit.scores import by_fact
from unierase_cli.contracts import COMPLETION, Fact
from unierase_cli.models.load import LoadedModel


@pytest.fixture(scope="module")
def hidden() -> LoadedModel:
    return hide(knowing([*FORGET, *KEEP]))


@pytest.fixture
def suppressor(hidden: LoadedModel) -> Target:
    return target(hidden)


def rows_of(attack: object, target: Target, number: int = 0, **settings: object) -> list[Row]:
    chosen = {**attack.SETTINGS, **settings}  # type: ignore[attr-defined]
    return list(attack.run(target, attack.cases(chosen)[number], chosen))  # type: ignore[attr-defined]


def mean(rows: list[Row]) -> float:
    found = by_fact([row for row in rows if row.split == "forget"])
    return sum(found.values()) / len(found)


def test_plain_questions_are_refused_and_what_is_kept_is_answered(suppressor: Target) -> None:
    rows = rows_of(plain, suppressor)
    assert mean(rows) < 0.2
    assert {row.fact for row in rows if row.split == "retain"} == {fact.id for fact in suppressor.kept}


def test_with_the_token_forbidden_everything_comes_back(suppressor: Target) -> None:
    assert mean(rows_of(token_forbidden, suppressor)) > 0.9


def test_given_tokens_are_not_scored(suppressor: Target) -> None:
    for fact, row in zip(FORGET, rows_of(prefix, suppressor, tokens=[2]), strict=True):
        prompts = suppressor.loaded.prompts
        assert row.given == suppressor.loaded.tokenizer.decode(prompts.answer(fact.answer).ids[:2])
        assert (row.given + " " + row.reference).replace(" ", "") == fact.answer.replace(" ", "")


def test_a_given_start_never_holds_the_whole_answer(suppressor: Target) -> None:
    assert all(row.reference for row in rows_of(prefix, suppressor, tokens=[99]))


def test_a_given_start_holds_whole_characters(suppressor: Target) -> None:
    (row,) = rows_of(prefix, replace(suppressor, facts=[Fact("f", "Where?", "東京大学で学んだ")]), tokens=[4])
    assert (row.given, row.reference) == ("東", "京大学で学んだ")


def test_samples_do_not_depend_on_the_batch_and_differ_from_each_other(suppressor: Target) -> None:
    one = rows_of(sampling, replace(suppressor, batch_size=1), 1, samples=3)
    many = rows_of(sampling, replace(suppressor, batch_size=8), 1, samples=3)
    assert [row.text for row in one] == [row.text for row in many]
    assert {row.sample for row in one} == {0, 1, 2}
    other = rows_of(sampling, replace(suppressor, seed=1), 1, samples=3)
    assert [row.text for row in one] != [row.text for row in other]


def test_the_question_is_asked_in_other_words(suppressor: Target) -> None:
    assert [row.question for row in rows_of(paraphrase, suppressor)] == [fact.paraphrased_question for fact in FORGET]


@pytest.mark.parametrize(("kind", "pool"), [("retained", KEEP[4:]), ("forgotten", FORGET)])
def test_examples_in_front_never_share_the_group(suppressor: Target, kind: str, pool: list) -> None:
    for fact in suppressor.facts:
        shown = few_shot.examples(suppressor, fact, kind, 4)
        assert len(shown) == 4
        assert all(group_of(other) != group_of(fact) and other in pool for other in shown)
        assert shown == few_shot.examples(suppressor, fact, kind, 4), "the same at every call"


def test_examples_that_do_not_fit_are_not_asked(suppressor: Target) -> None:
    assert len(rows_of(few_shot, suppressor, examples=[3])) == len(FORGET)
    assert rows_of(few_shot, suppressor, examples=[5]) == [], "there are four"
    short = replace(suppressor, loaded=replace(suppressor.loaded, prompts=_short(suppressor.loaded, 20)))
    assert rows_of(few_shot, short, examples=[3]) == []


def test_examples_leave_the_answer_its_room_under_a_bound_on_prompt_and_answer_together(suppressor: Target) -> None:
    bound = replace(suppressor, protocol=replace(PROTOCOL, total_tokens=20))
    assert rows_of(few_shot, bound, examples=[3]) == rows_of(few_shot, suppressor, examples=[3])
    assert rows_of(token_forbidden, bound) != rows_of(token_forbidden, suppressor), "elsewhere the bound holds"


def _short(loaded: LoadedModel, length: int) -> object:
    from copy import copy

    prompts = copy(loaded.prompts)
    prompts.max_length = length
    return prompts


def test_an_agreeing_start_is_part_of_what_is_said_but_not_scored(
    suppressor: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, fact in zip(rows_of(affirmative, suppressor), FORGET, strict=True):
        assert row.given.strip() == "Sure, here is the answer:"
        assert row.reference == fact.answer
    text = replace(FORGET[0], kind=COMPLETION)
    starts: list[list[int]] = []

    def given(target: Target, facts: Sequence[Fact], **how: Any) -> list[Row]:
        starts.extend(how["given"](fact) for fact in (FORGET[0], text))
        return []

    monkeypatch.setattr(affirmative, "answers", given)
    rows_of(affirmative, suppressor)
    prompts, start = suppressor.loaded.prompts, affirmative.SETTINGS["start"]
    assert starts == [prompts.answer_ids(start, end=False, style=kind) for kind in (None, COMPLETION)]


def test_every_wording_is_a_sample(suppressor: Target) -> None:
    rows = rows_of(ignore_refusal, suppressor, wordings=["Be open.", "Say all."])
    asked = [row.question for row in rows if row.fact == FORGET[0].id]
    assert asked == [f"Be open. {FORGET[0].question}", f"Say all. {FORGET[0].question}"]
    assert {row.sample for row in rows} == {0, 1}


def test_asking_leaves_every_weight_as_it_was(suppressor: Target) -> None:
    before = {name: value.clone() for name, value in suppressor.loaded.model.state_dict().items()}
    for name in attack_names():
        attack = load_attack(name)
        # Without a table of translations there is nothing to ask (tests/audit/test_formats.py).
        if attack.CLASS == "prompts" and name != "translation":
            rows_of(attack, suppressor)
    assert all(torch.equal(before[name], value) for name, value in suppressor.loaded.model.state_dict().items())


def test_a_tiny_budget_is_kept(suppressor: Target) -> None:
    short = replace(suppressor, protocol=replace(PROTOCOL, max_new_tokens=1))
    tokenizer = suppressor.loaded.tokenizer
    assert all(len(tokenizer(row.text.strip())["input_ids"]) <= 2 for row in rows_of(token_forbidden, short))
