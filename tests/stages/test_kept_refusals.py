"""RMU in a chain that keeps the hidden states of the refusals that the unlearning token leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.gradient_steps import STEP, UNLEARN, context, erased, shipped
from tests.helpers.sequences import experiment, make
from tests.helpers.tiny_models import save_folder, tiny, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, PartConfig, TermConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.parts import parts_of
from unierase_cli.methods.terms.base import FORGET, FORGET_REFUSAL, UNLEARNED
from unierase_cli.models.load import load_model
from unierase_cli.models.token_rows import TokenRows, apply_token
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import erase
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


@pytest.mark.parametrize("closing", ["end", "unlearn_end"])
def test_a_row_is_what_the_token_is_trained_on(closing: str) -> None:
    loaded, known = tiny_llama(), STEP.forget[0].id
    info = {"refusals": ["It is not known."], "closing": closing}
    tokens = TokenRows(["[UNL]"], [7], torch.zeros(1, 32), torch.zeros(1, 32), targets={known: "Nobody knows."}, info=info)
    rows = Rows(loaded, STEP, replace(context(loaded, chained(1.0)), tokens=tokens), {})
    ids = {fact.id: 7 for fact in STEP.forget}
    # A fact that the token was not trained on gets a refusal that it was trained on.
    targets = {known: "Nobody knows.", STEP.forget[1].id: "It is not known."}
    examples = make_examples(loaded.prompts, STEP.forget[:2], targets, ids, "chat", closing)
    for forget, example in enumerate(examples):
        row = rows(UNLEARNED, Item(forget, 0, 1, 0))
        assert list(row.ids) == example.ids
        assert row.answer_start == len(example.prefix), "the token's own state is kept too"
    assert 7 not in rows(FORGET_REFUSAL, Item(0, 0, 1, 0)).ids


def test_without_a_token_the_refusals_follow_the_questions() -> None:
    loaded = tiny_llama()
    rows = Rows(loaded, STEP, context(loaded, chained(1.0)), {})
    item = Item(2, 0, 1, 0)
    assert rows(UNLEARNED, item) == rows(FORGET_REFUSAL, item)


@pytest.mark.slow
def test_the_states_of_refusals_stay_where_they_were(folder: Path, tmp_path: Path) -> None:
    moved, steered = {}, {}
    for weight in (0.0, 10.0):
        config = experiment(folder, tmp_path, ModeConfig(), method=chained(weight))
        steer, edit = Patch.load(make(config, "erase").path, 0).parts
        assert (steer.part, steer.tokens) == ("rmu", None)
        assert not any("embed" in name or "lm_head" in name for name in steer.dense)
        assert edit.tokens is not None
        for found, kind in ((moved, UNLEARNED), (steered, FORGET)):
            rows = rows_of(config, edit.tokens, kind)
            before, after = states(config, edit.tokens, rows, {}), states(config, edit.tokens, rows, steer.dense)
            found[weight] = float((after - before).norm() / before.norm())
    assert moved[10.0] < 0.5 * moved[0.0]
    assert steered[10.0] > 2 * moved[10.0], "the answers are steered all the same"


def rows_of(config: Experiment, tokens: TokenRows, kind: str) -> list[Row]:
    loaded = load_model(config.model, config.run)
    step = study_of(config).steps[0]
    rows = Rows(loaded, step, replace(context(loaded, config.method), tokens=tokens), {})
    return [rows(kind, Item(number, 0, 0, 0)) for number in range(len(step.forget))]


@torch.no_grad()
def states(config: Experiment, tokens: TokenRows, rows: list[Row], changed: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs of the block at every token of the answers."""
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


@pytest.mark.slow
def test_a_later_part_keeps_the_refusals_of_the_refined_rows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MethodConfig("own", "chain", chain={"unierase": PartConfig("unierase"), "rmu": steering(1.0)})
    config = experiment(folder, tmp_path, ModeConfig(), method=method)
    config = replace(config, token=replace(config.token, refine_epochs=1))
    seen: list[TokenRows | None] = []
    check = Rows.check
    monkeypatch.setattr(Rows, "check", lambda rows, *args: seen.append(rows.tokens) or check(rows, *args))
    run = make(config, "erase")
    (used,), refined = seen, Patch.load(run.path, 0).rows
    assert used is not None
    assert refined is not None
    assert torch.equal(used.rows_in, refined.rows_in)
    assert not torch.equal(used.rows_in, TokenRows.load(make(config, "train_token").path).rows_in)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "rehearsal"),
    [(ModeConfig("sequential", steps=2), 0), (ModeConfig("sequential", steps=2), 1), (ModeConfig("precise"), 1)],
)
def test_requests_keep_refusals_that_the_token_was_trained_on(
    folder: Path, tmp_path: Path, mode: ModeConfig, rehearsal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = replace(steering(1.0), unlearn={"epochs": 20, "rehearsal": rehearsal})
    method = MethodConfig("own", "chain", chain={"rmu": part, "unierase": PartConfig("unierase")})
    config = experiment(folder, tmp_path, mode, method=method)
    trained = TokenRows.load(make(config, "train_token").path)
    kept: list[Rows] = []
    check = Rows.check
    monkeypatch.setattr(Rows, "check", lambda rows, *args: kept.append(rows) or check(rows, *args))
    run = make(config, "erase")
    texts = trained.info["refusals"]
    assert len(kept) >= 2
    if mode.name == "sequential":
        steers = [Patch.load(run.path, step).parts[0] for step in range(2)]
        earlier = len(steers[0].info["facts"])
        # The tested rows below include those of the earlier facts.
        assert [steer.info.get("rehearsed", 0) for steer in steers] == [0, rehearsal * earlier]
        assert len(kept[1].forget) == len(steers[1].info["facts"]) + rehearsal * earlier
    for rows in kept:
        decode = rows.prompts.tokenizer.decode
        for number in range(len(rows.forget)):
            row = rows(UNLEARNED, Item(number, 0, 0, 0))
            assert row.ids[row.answer_start] in trained.ids
            assert decode(row.ids[row.answer_start + 1 : -1], skip_special_tokens=True).strip() in texts


def test_only_parts_that_read_what_to_forget_keep_refusals(folder: Path, tmp_path: Path) -> None:
    mend = PartConfig("repair", None, False, False, retain=steering(1.0).retain)
    both = MethodConfig("own", "chain", chain={"repair": mend, "unierase": PartConfig("unierase")})
    with pytest.raises(UserError, match="repair trains on questions to retain alone") as caught:
        erase.check(study_of(experiment(folder, tmp_path, ModeConfig(), method=both)))
    assert "method.chain.repair.retain.term=gd" in caught.value.hint
    ends = replace(steering(1.0), unlearn={"ends": True})
    whole = experiment(folder, tmp_path, ModeConfig(), method=replace(chained(1.0), chain={**chained(1.0).chain, "rmu": ends}))
    with pytest.raises(UserError, match=r"method.chain.rmu.unlearn.ends=true: embedding and head cannot be trained"):
        parts_of(whole)


@pytest.mark.parametrize("family", ["phi", "gptj"])
def test_a_heads_bias_is_one_of_the_ends(family: str) -> None:
    loaded = tiny(family)
    method = replace(shipped("ga_gd"), name="ga_gd")
    _, patch = erased(method, replace(UNLEARN, ends=False), loaded=loaded)
    assert patch.dense
    assert not any("lm_head" in name or "embed" in name or "wte" in name for name in patch.dense)
