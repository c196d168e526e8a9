"""Free embeddings: what they are trained on, what is asked, and that the model stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace

import pytest
import torch

from tests.helpers.audits import FORGET, KEEP, knowing, target
from unierase_cli.audit import soft_tokens
from unierase_cli.audit.attacks import soft_prompt, soft_suffix, targeted_tokens
from unierase_cli.audit.base import BY_NAME, Row, Target, chosen_attacks, group_of
from unierase_cli.contracts import Fact
from unierase_cli.inference.generate import generate
from unierase_cli.models.load import LoadedModel
from unierase_cli.representation.entities import Line

SETTINGS = {
    soft_prompt: {"steps": 6, "tokens": 2, "batch": 4, "lr": 1e-2},
    soft_suffix: {"steps": 4, "every": 2, "tokens": 2, "new_tokens": 6, "batch": 4},
    targeted_tokens: {"steps": 12, "tokens": 2, "lr": 1e-2},
}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return knowing([*FORGET, *KEEP])


@pytest.fixture
def attacked(loaded: LoadedModel) -> Iterator[Target]:
    """A model that must be the same to the bit when a test ends."""
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    strange = [Fact(f"s{n}", f"Where is {n}?", f"Nobody lives in town {n}.", group=f"{n}") for n in range(4)]
    yield replace(target(loaded), never_trained=strange)
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())
    assert not loaded.architecture.embedding._forward_hooks
    assert not loaded.architecture.embedding._forward_pre_hooks


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every answer that embeddings are trained towards."""
    found: set[str] = set()
    own = soft_tokens.labelled

    def labelled(loaded: LoadedModel, batch: list) -> tuple:
        found.update(loaded.tokenizer.decode(e.answer_ids, skip_special_tokens=True).strip() for e in batch)
        return own(loaded, batch)

    monkeypatch.setattr(soft_tokens, "labelled", labelled)
    return found


def rows_of(attack: object, target: Target, number: int = 0, **settings: object) -> list[Row]:
    chosen = {**attack.SETTINGS, **SETTINGS[attack], **settings}  # type: ignore[attr-defined, index]
    return list(attack.run(target, attack.cases(chosen)[number], chosen))  # type: ignore[attr-defined]


def test_free_embeddings_that_are_those_of_tokens_say_the_same(attacked: Target) -> None:
    loaded = attacked.loaded
    prompts = [loaded.prompts.prompt(fact.question).ids for fact in FORGET[:2]]
    vectors = loaded.architecture.embedding.weight[torch.tensor(prompts[0][:3])].float()
    soft = soft_tokens.soft_ids(loaded, 0, 3)
    plain = generate(loaded, prompts, max_new_tokens=8)
    with soft_tokens.soft_tokens(loaded, vectors):
        assert generate(loaded, [[*soft, *prompts[0][3:]], prompts[1]], max_new_tokens=8) == plain


def test_losses_are_means_over_each_answer(attacked: Target) -> None:
    loaded = attacked.loaded
    examples = [
        soft_tokens.Example(loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(fact.answer))
        for fact in FORGET[:3]
    ]
    together = soft_tokens.mean_losses(*soft_tokens.labelled(loaded, examples))
    alone = [float(soft_tokens.mean_losses(*soft_tokens.labelled(loaded, [example]))) for example in examples]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)


def test_no_answer_that_is_asked_is_a_target_of_the_universal_prompt(attacked: Target, taught: set[str]) -> None:
    rows = rows_of(soft_prompt, attacked)
    asked = [fact for fact in FORGET if fact.id in {row.fact for row in rows}]
    assert len(asked) == 4
    assert taught
    assert not taught & {fact.answer for fact in asked}
    learned = {group_of(fact) for fact in FORGET if fact.answer in taught}
    assert not learned & {group_of(fact) for fact in asked}
    assert "the loss on what it learns went from" in attacked.reporter.notes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("number", "count"), [(0, 8), (1, 4)])
def test_the_suffix_only_ever_learns_to_agree(attacked: Target, taught: set[str], number: int, count: int) -> None:
    rows = rows_of(soft_suffix, attacked, number)
    assert taught == {"Sure, the answer is"}
    assert len(rows) == count
    assert [row.reference for row in rows] == [fact.answer for fact in FORGET if fact.id in {row.fact for row in rows}]
    assert all(0 <= row.scores["right"] <= 1 for row in rows)


def test_the_suffix_scores_the_controls_facts_by_the_same_rule(attacked: Target) -> None:
    named = [Line(fact.question, fact.answer, fact.answer.split()[-1].rstrip(".")) for fact in FORGET[::2]]
    under = replace(attacked, entities=named)
    forgotten = rows_of(soft_suffix, under)
    assert [row.reference for row in forgotten[:2]] == ["Lisbon", "Mostly gardening manuals."], "or a short answer"
    assert {row.scores["right"] for row in forgotten} <= {0.0, 1.0}
    assert rows_of(soft_suffix, replace(under, facts=attacked.never_trained)) == [], "no entity is known of these"


def test_what_a_fact_is_answered_does_not_depend_on_its_neighbours(attacked: Target) -> None:
    alone = rows_of(soft_suffix, attacked, batch=1)
    together = rows_of(soft_suffix, attacked, batch=8)
    assert [row.text for row in alone] == [row.text for row in together]


def test_facts_of_a_single_group_have_no_others_to_learn_from(attacked: Target) -> None:
    single = replace(attacked, facts=FORGET[:2])
    assert rows_of(soft_prompt, single) == []
    assert rows_of(soft_suffix, single, 1) == []
    assert all("single group" in warning for warning in single.reporter.warnings)  # type: ignore[attr-defined]


def test_a_known_answer_comes_sooner_than_one_that_nobody_was_taught(attacked: Target) -> None:
    rows = rows_of(targeted_tokens, attacked)
    assert [row.fact for row in rows] == [fact.id for fact in FORGET]
    assert all(row.scores["sooner"] == pytest.approx(torch.tensor(12.0).log10().item(), abs=1e-5) for row in rows)
    assert rows[0].text.startswith("the answer after 1 steps")


def test_true_and_strange_answers_are_of_like_length(attacked: Target) -> None:
    of_like_length = Fact("x", "Who?", "It is so.")
    under = replace(attacked, never_trained=[*attacked.never_trained, of_like_length])
    assert targeted_tokens.never_taught(under, Fact("y", "Who?", "He is so.")) == "It is so."
    bare = replace(attacked, never_trained=())
    assert targeted_tokens.never_taught(bare, replace(FORGET[0], wrong_answers=("In Rome.",))) == "In Rome."
    assert rows_of(targeted_tokens, bare) == []


def test_targeted_tokens_are_weak_evidence_and_in_no_preset() -> None:
    assert targeted_tokens.PRESET == BY_NAME
    assert targeted_tokens.WEAK
    assert "targeted_tokens" not in chosen_attacks(["thorough"])
    assert chosen_attacks(["targeted_tokens"]) == ["targeted_tokens"]


def test_a_prompt_that_leaves_no_room_for_free_embeddings_is_not_asked(attacked: Target) -> None:
    prompts = copy(attacked.loaded.prompts)
    prompts.max_length = len(prompts.prompt(FORGET[0].question).ids) + 2
    short = replace(attacked, facts=FORGET[:1], loaded=replace(attacked.loaded, prompts=prompts))
    for attack in SETTINGS:
        assert rows_of(attack, short) == []
