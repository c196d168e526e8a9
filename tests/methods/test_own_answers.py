"""Gradient methods that train on the unedited model's own answers (``unlearn.answers=model``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.gradient_steps import STEP, UNLEARN, context, erased, shipped
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext, load_method
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.own_answers import own_answers
from unierase_cli.models.load import LoadedModel
from unierase_cli.stages.shared.erase_context import greedy_answers
from unierase_cli.training.unlearning.plan import Item
from unierase_cli.training.unlearning.said import Said, load_said

OWN = replace(UNLEARN, answers="model", answer_tokens=6)
ITEMS = [Item(0, 1, 0), Item(2, 1, 0)]
ASKED = [STEP.forget[0], STEP.forget[2], STEP.retain[1]]


def asking(
    loaded: LoadedModel, method: str, config: UnlearnConfig = OWN, directory: Path | None = None
) -> EraseContext:
    found = context(loaded, shipped(method), config, directory=directory)
    return replace(found, answer=lambda prompts, most: greedy_answers(loaded, prompts, most, 8))


def said(loaded: LoadedModel, directory: Path | None = None) -> dict[str, Said]:
    return dict(own_answers(loaded, asking(loaded, "ga_gd", directory=directory), ASKED, 0))


@pytest.mark.parametrize("method", ["ga_gd", "undial"])
def test_a_method_asks_for_what_it_trains_on(method: str, tmp_path: Path) -> None:
    loaded = tiny_llama()
    load_method("gradient").erase(loaded, STEP, EditState(), asking(loaded, method, directory=tmp_path))
    trained = {*STEP.forget, *(STEP.retain if method == "ga_gd" else ())}
    assert set(load_said(tmp_path / "said-000.jsonl")) == {fact.id for fact in trained}


def test_the_answers_are_those_of_the_unedited_model_and_the_edited_weights_come_back() -> None:
    loaded = tiny_llama()
    expected = said(loaded)
    found = asking(loaded, "ga_gd", replace(OWN, lr=0.1))
    load_method("gradient").erase(loaded, STEP, EditState(), found)
    edited = [p.detach().clone() for p in loaded.model.parameters()]
    assert own_answers(loaded, found, ASKED, 0) == expected
    assert all(torch.equal(a, b) for a, b in zip(edited, loaded.model.parameters(), strict=True))
    now = greedy_answers(loaded, [loaded.prompts.prompt(STEP.forget[0].question).ids], OWN.answer_tokens, 8)
    assert now != [expected[STEP.forget[0].id]]


def test_rows_hold_the_own_answers_without_an_end_that_the_model_did_not_give() -> None:
    loaded = tiny_llama()
    rows = Rows(loaded, STEP, asking(loaded, "ga_gd"), {})
    rows.said = {STEP.forget[0].id: Said("so it is", ends=False), STEP.retain[1].id: Said("and so", ends=True)}
    cut, whole = rows("forget", ITEMS[0]), rows("retain", ITEMS[0])
    assert cut.ids[cut.answer_start :] == tuple(loaded.prompts.answer_ids("so it is", end=False))
    assert (cut.ends, cut.cut) == (False, False)
    assert whole.ids[whole.answer_start :] == tuple(loaded.prompts.answer_ids("and so"))
    assert whole.ends
    other = rows("forget", ITEMS[1])
    assert other.ids[other.answer_start :] == tuple(loaded.prompts.answer_ids(STEP.forget[2].answer))


def test_a_resumed_run_trains_on_the_same_answers(tmp_path: Path) -> None:
    first = said(tiny_llama(), tmp_path)
    assert load_said(tmp_path / "said-000.jsonl") == first
    loaded = tiny_llama()
    found = replace(asking(loaded, "ga_gd", directory=tmp_path), answer=None)
    assert own_answers(loaded, found, ASKED, 0) == first


def test_the_models_answers_give_another_patch_than_the_benchmarks() -> None:
    loaded = tiny_llama()
    patch, _ = load_method("gradient").erase(loaded, STEP, EditState(), asking(loaded, "npo_gd"))
    _, plain = erased(shipped("npo_gd"))
    assert any(not torch.equal(patch.dense[name], plain.dense[name]) for name in plain.dense)


def test_weights_of_the_benchmarks_tokens_do_not_fit_other_answers() -> None:
    with pytest.raises(UserError, match="which unlearn.answers=model replaces"):
        replace(OWN, token_weights="weights.jsonl")
    with pytest.raises(UserError, match="unlearn.answers"):
        replace(OWN, answers="mine")
