"""Learning the input rows once more, on the edited model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny_models import FACTS, tiny, tiny_llama
from tests.helpers.token_learning import SHORT, TARGETS, learn, weights
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, SilentReporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import get_rows, set_rows
from unierase_cli.training.token import guard as guards
from unierase_cli.training.token import learning as token_training
from unierase_cli.training.token.guard import Guard
from unierase_cli.training.token.learning import refine_token
from unierase_cli.training.token.pairs import make_examples
from unierase_cli.training.token.prefix import run_prefix
from unierase_cli.training.token.row_fit import Leaves
from unierase_cli.training.token.row_start import kept_directions, leaf_rows, start_rows
from unierase_cli.training.unlearning.row_batches import Batch, batch_loss


@pytest.mark.slow
def test_training_lowers_the_refusals_loss_and_refinement_does_so_on_the_edited_model(refusals: str) -> None:
    config = TokenConfig(lr_unit="absolute", 
        stages=[TokenStage(["chat"], epochs=60, lr=5e-2)],
        targets=refusals,
        settle=False,
        refine_epochs=30,
        refine_lr=5e-2,
        improbable=-1e9,
    )
    loaded = tiny_llama()
    rows = learn(loaded, config)
    losses = rows.info["phases"][0]["losses"]
    assert losses[-1] < losses[0] - 0.2
    generator = torch.Generator().manual_seed(1)
    for layer in (1, 2):
        weight = loaded.architecture.weight(layer)
        loaded.architecture.set_weight(layer, weight + 0.5 * weight.std() * torch.randn(weight.shape, generator=generator))
    before = weights(loaded)
    refined = refine_token(loaded, rows, FACTS, config, layers=[1, 2], seed=0, reporter=SilentReporter())
    again = refined.info["refined"]["phases"][0]["losses"]
    assert again[-1] < again[0]
    assert torch.equal(refined.rows_out, rows.rows_out)
    assert not torch.equal(refined.rows_in, rows.rows_in)
    changed = [name for name, after in weights(loaded).items() if not torch.equal(after, before[name])]
    assert changed == ["model.embed_tokens.weight"]


def test_refining_a_tied_row_also_asks_for_the_token_as_first_answer() -> None:
    loaded = tiny_llama(tied=True)
    (token,) = start_rows(loaded, ["<unlearn_0>"], TokenConfig(), 0)
    examples = make_examples(loaded.prompts, FACTS, TARGETS, dict.fromkeys(TARGETS, token), "chat", "end")
    batch = Batch(loaded, examples, [token])
    prefix = run_prefix(loaded, batch.prefixes)
    leaf = leaf_rows(get_rows(loaded, [token])[0])
    found = batch_loss(loaded, Leaves([token], leaf, leaf, hold=True), batch, prefix)
    plain = batch_loss(loaded, Leaves([token], leaf, leaf), batch, prefix)
    firsts = loaded.architecture.logits(prefix.last).log_softmax(-1)[:, token]
    n = len(batch.labels)
    torch.testing.assert_close(found, (plain * n - firsts.sum()) / (n + len(FACTS)), rtol=1e-5, atol=1e-6)


def test_facts_that_go_astray_are_refined_again_as_often_as_all_others(
    refusals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenConfig(
        lr_unit="absolute", stages=SHORT, targets=refusals, settle=False, refine_epochs=1, refine_rounds=3, batch_size=100
    )
    loaded = tiny_llama()
    rows = learn(loaded, config)
    astray = iter([{FACTS[0].id}, {FACTS[0].id, FACTS[1].id}, set()])
    monkeypatch.setattr(token_training, "astray", lambda *_: next(astray))
    reporter = SilentReporter()
    refined = refine_token(loaded, rows, FACTS, config, layers=[1, 2], seed=0, reporter=reporter)
    counts = [phase["examples"] for phase in refined.info["refined"]["phases"]]
    n = len(FACTS)
    assert counts == [n, n + n // 2, n + 2 * max(1, n // 4)]
    assert "1 facts lead to no listed refusal" in reporter.notes[0]


def test_the_rows_of_the_turn_that_left_the_fewest_astray_are_taken(
    refusals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenConfig(lr_unit="absolute", stages=SHORT, targets=refusals, settle=False, refine_epochs=1, refine_rounds=2)
    loaded = tiny_llama()
    rows = learn(loaded, config)
    seen: list[torch.Tensor] = []
    astray = iter([{FACTS[0].id, FACTS[1].id}, {FACTS[0].id}, {FACTS[2].id}])

    def look(*_):
        seen.append(get_rows(loaded, rows.ids)[0].clone())
        return next(astray)

    monkeypatch.setattr(token_training, "astray", look)
    refined = refine_token(loaded, rows, FACTS, config, layers=[1, 2], seed=0, reporter=SilentReporter())
    assert refined.info["refined"]["astray"] == [2, 1, 1]
    assert torch.equal(refined.rows_in, seen[1])
    assert torch.equal(get_rows(loaded, rows.ids)[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("protected", [True, False])
def test_refining_a_tied_row_leaves_its_logits_at_protected_questions(refusals: str, protected: bool) -> None:
    """Seen on SmolLM2: asked for [UNL] as the first answer token, the row else becomes likelier after every question."""
    loaded = tiny_llama(tied=True)
    config = TokenConfig(lr_unit="absolute", stages=SHORT, targets=refusals, settle=False, refine_epochs=5, refine_lr=5e-2)
    rows = learn(loaded, config)
    to_keep = [replace(fact, question=f"Tell me: {fact.question}") for fact in FACTS]
    ends = run_prefix(loaded, [loaded.prompts.prompt(fact.question).ids for fact in to_keep]).last
    before = loaded.architecture.logits(ends)[:, rows.ids]
    kept = {"protected": to_keep} if protected else {}
    refined = refine_token(loaded, rows, FACTS[:2], config, layers=[1, 2], seed=0, reporter=SilentReporter(), **kept)
    assert not torch.equal(refined.rows_in, rows.rows_in)
    moved = (loaded.architecture.logits(ends)[:, rows.ids] - before).abs().max()
    assert (moved < 1e-4) == protected


def test_directions_to_keep_are_orthonormal_and_at_most_a_quarter_of_all() -> None:
    loaded = tiny_llama()
    quarter = loaded.architecture.hidden_size // 4
    facts = [Fact(str(i), f"What is number {i}?", "") for i in range(2 * quarter)]
    found = kept_directions(loaded, [*facts, *facts])
    assert found is not None
    assert 1 < len(found) <= quarter
    torch.testing.assert_close(found @ found.T, torch.eye(len(found)), atol=1e-5, rtol=0)
    same = kept_directions(loaded, [FACTS[0]] * 3)
    assert same is not None
    assert len(same) == 1
    assert kept_directions(loaded, []) is None


def test_states_that_are_not_finite_are_told_in_one_line() -> None:
    loaded = tiny_llama()
    loaded.architecture.set_weight(0, torch.full_like(loaded.architecture.weight(0), float("nan")))
    with pytest.raises(UserError, match="not finite at the ends of protected questions"):
        kept_directions(loaded, FACTS[:1])


def given(loaded: LoadedModel, facts: Sequence[Fact]) -> list[tuple[list[int], list[int]]]:
    return [loaded.prompts.pair(fact) for fact in facts]


@torch.no_grad()
def lost(loaded: LoadedModel, ids: list[int], facts: Sequence[Fact]) -> float:
    """-log(1 - P(tokens)) per answer, one sequence at a time from the whole model's probabilities."""
    total = 0.0
    for prompt, answer in given(loaded, facts):
        chances = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].double().softmax(-1)
        total -= float(torch.log1p(-chances[:, ids].sum(1)).sum())
    return total / len(facts)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_what_answers_lose_to_the_token_is_that_of_the_whole_models_probabilities(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny_llama(tied=True) if name == "llama" else tiny(name)
    ids = start_rows(loaded, ["<unlearn_0>", "<unlearn_1>"], TokenConfig(groups=2), 0)
    set_rows(loaded, ids, 3 * get_rows(loaded, ids)[0].cpu(), None)
    monkeypatch.setattr(guards, "GUARDED_PLACES", 5)
    guard = Guard(loaded, ids, given(loaded, FACTS))
    assert len(guard.states) == sum(len(answer) for _, answer in given(loaded, FACTS))
    assert float(guard(get_rows(loaded, ids)[0])) == pytest.approx(lost(loaded, ids, FACTS), rel=1e-4)


def test_a_guarded_row_stays_out_of_the_answers_to_keep(refusals: str) -> None:
    """Seen on SmolLM2: refined on 100 facts, the row came up within three of five answers to other questions."""
    config = TokenConfig(lr_unit="absolute", stages=SHORT, targets=refusals, settle=False, refine_epochs=20, refine_lr=5e-2)
    found = {}
    for weight in (0.0, 1.0):
        loaded = tiny_llama(tied=True)
        rows = learn(loaded, config)
        refined = refine_token(
            loaded, rows, FACTS[:2], replace(config, refine_guard=weight), layers=[1, 2], seed=0, reporter=SilentReporter(),
            answers=given(loaded, FACTS[2:]),
        )  # fmt: skip
        found[weight] = lost(loaded, rows.ids, FACTS[2:]), refined
    loaded = tiny_llama(tied=True)
    rows = learn(loaded, config)
    plain = refine_token(loaded, rows, FACTS[:2], config, layers=[1, 2], seed=0, reporter=SilentReporter())
    assert found[1.0][0] < 0.5 * found[0.0][0]
    assert torch.equal(found[0.0][1].rows_in, plain.rows_in), "without weight or without answers nothing is guarded"
    assert found[1.0][1].info["refined"]["taken"] == pytest.approx(found[1.0][0], rel=1e-4)
    assert "taken" not in plain.info["refined"]


@pytest.mark.parametrize(("much", "warned"), [(0.0, True), (1e9, False)])
def test_a_row_that_still_takes_much_is_told(
    refusals: str, much: float, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_training, "TAKES_MUCH", much)
    config = TokenConfig(lr_unit="absolute", stages=SHORT, targets=refusals, settle=False, refine_epochs=1, refine_lr=5e-2)
    loaded, reporter = tiny_llama(tied=True), SilentReporter()
    rows = learn(loaded, config)
    refine_token(loaded, rows, FACTS[:2], config, layers=[1, 2], seed=0, reporter=reporter, answers=given(loaded, FACTS[2:]))
    told = "from each of the answers to keep"
    assert any(told in text for text in reporter.warnings) == warned
    assert any(told in text for text in reporter.notes) != warned
