"""RMU in a chain that keeps the hidden states of the refusals that the unlearning token leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import STEP, context
from tests.helpers.sequences import experiment, make
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, PartConfig, TermConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.terms.base import FORGET_REFUSAL, UNLEARNED
from unierase_cli.models.load import load_model
from unierase_cli.models.token_rows import TokenRows, apply_token
from unierase_cli.pipeline.study import study_of
from unierase_cli.training.token.pairs import make_examples
from unierase_cli.training.unlearning.plan import Item
from unierase_cli.training.unlearning.rows import Row

BLOCK = 1


def steering(weight: float) -> PartConfig:
    kept = TermConfig("embed_diff", 1.0, {"layer": BLOCK, "refusals": weight})
    aim = TermConfig("rmu", 1.0, {"layer": BLOCK, "steering_coefficient": 20.0})
    return PartConfig("rmu", "gradient", False, False, aim, kept, unlearn={"epochs": 20})


def chained(weight: float) -> MethodConfig:
    return MethodConfig("own", "chain", chain={"rmu": steering(weight), "unierase": PartConfig("unierase")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


def test_a_row_is_what_the_token_was_trained_on() -> None:
    loaded = tiny_llama()
    tokens = TokenRows(["[UNL]"], [7], torch.zeros(1, 32), torch.zeros(1, 32), targets={STEP.forget[0].id: "It is not known."})
    rows = Rows(loaded, STEP, replace(context(loaded, chained(1.0)), tokens=tokens), {})
    first, second = (rows(UNLEARNED, Item(forget, 0, 1, 0)) for forget in (0, 1))
    ids = {fact.id: 7 for fact in STEP.forget}
    targets = {STEP.forget[0].id: "It is not known.", STEP.forget[1].id: rows.refusals[1]}
    examples = make_examples(loaded.prompts, STEP.forget[:2], targets, ids, "chat", "end")
    for row, example in zip((first, second), examples, strict=True):
        assert list(row.ids) == example.ids
        assert row.answer_start == len(example.prefix), "the token's own state is kept too"
    assert 7 not in rows(FORGET_REFUSAL, Item(0, 0, 1, 0)).ids


@pytest.mark.slow
def test_the_states_of_refusals_stay_where_they_were(folder: Path, tmp_path: Path) -> None:
    moved = {}
    for weight in (0.0, 10.0):
        config = experiment(folder, tmp_path, ModeConfig(), method=chained(weight))
        steer, edit = Patch.load(make(config, "erase").path, 0).parts
        assert (steer.part, steer.tokens) == ("rmu", None)
        assert not any("embed" in name or "lm_head" in name for name in steer.dense)
        assert edit.tokens is not None
        rows = refusals(config, edit.tokens)
        before, after = states(config, edit.tokens, rows, {}), states(config, edit.tokens, rows, steer.dense)
        moved[weight] = float((after - before).norm() / before.norm())
    assert moved[10.0] < 0.5 * moved[0.0]


def refusals(config: Any, tokens: TokenRows) -> list[Row]:
    loaded = load_model(config.model, config.run)
    step = study_of(config).steps[0]
    rows = Rows(loaded, step, replace(context(loaded, config.method), tokens=tokens), {})
    return [rows(UNLEARNED, Item(number, 0, 0, 0)) for number in range(len(step.forget))]


@torch.no_grad()
def states(config: Any, tokens: TokenRows, rows: list[Row], changed: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs of the block at every token of the refusals."""
    loaded = load_model(config.model, config.run)
    apply_token(loaded, tokens)
    named = dict(loaded.model.named_parameters())
    for name, value in changed.items():
        named[name].copy_(value)
    found = []
    for row in rows:
        hidden = loaded.model(torch.tensor([row.ids]), output_hidden_states=True).hidden_states
        found.append(hidden[BLOCK + 1][0, row.answer_start :])
    return torch.cat(found)


def test_without_a_token_there_is_nothing_to_keep(folder: Path, tmp_path: Path) -> None:
    alone = MethodConfig("rmu", "gradient", False, False, steering(1.0).forget, steering(1.0).retain)
    pair = MethodConfig("own", "chain", False, False, chain={"rmu": steering(1.0)})
    for method in (alone, pair):
        with pytest.raises(UserError, match="rmu keeps refusals of an unlearning token, which no later method has") as caught:
            make(experiment(folder, tmp_path, ModeConfig(), method=method), "erase")
        assert "method=[rmu,unierase]" in caught.value.hint
