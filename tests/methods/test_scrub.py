"""Scrub and repair: in turns, stopped by the depth after the repair, undone where it costs what should be kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import STEP, UNLEARN, context, erased, loss_on, shipped
from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import Fact, Step, UserError
from unierase_cli.editing.state import EditState
from unierase_cli.methods import repair, rounds, scrub
from unierase_cli.methods.gradient_checks import check
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.terms import bounded
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.optimisation import Masters
from unierase_cli.training.unlearning.depth import mean_nll, never_learned
from unierase_cli.training.unlearning.mixed_words import with_others_words
from unierase_cli.training.unlearning.plan import forget_batches, retain_batches
from unierase_cli.training.unlearning.relearned import Relearned
from unierase_cli.training.unlearning.rows import collate, make_row
from unierase_cli.training.unlearning.said import Said
from unierase_cli.training.unlearning.turns import InTurns, Together
from unierase_cli.training.unlearning.views import View


def method(**settings: Any) -> MethodConfig:
    found = shipped("scrub")
    return replace(found, settings={**found.settings, **settings})


def view(loaded: LoadedModel, fact: Fact) -> View:
    row = make_row(loaded.prompts.prompt(fact.question).ids, loaded.prompts.answer_ids(fact.answer))
    return View(loaded, collate([row], loaded.prompts.pad_id, loaded.device))


def test_a_token_beyond_the_margin_has_no_gradient() -> None:
    loaded = tiny_llama()
    seen = view(loaded, FACTS[0])
    values = bounded.values({"forget": seen}, {"margin": float(seen.nll.median())})
    assert (values >= 0).all()
    assert (values[seen.nll > seen.nll.median()] == 0).all()
    assert torch.allclose(values, (seen.nll.median() - seen.nll).clamp_min(0))
    usual = bounded.values({"forget": view(loaded, FACTS[0])}, {"margin": None})
    assert torch.allclose(usual, (math.log(seen.logits.shape[-1]) - seen.nll).clamp_min(0))


def test_rounds_are_made_until_the_depth_after_the_repair_holds() -> None:
    before = loss_on(tiny_llama())
    loaded, patch = erased(method(margin=before * 1.25, hold=0.9, rounds=6, steps=8))
    found = patch.info["rounds"]
    assert all(one["forget_nll"] < 0.9 * patch.info["margin"] or not one["complete"] for one in found[:-1])
    assert loss_on(loaded) == pytest.approx(found[-1]["forget_nll"], rel=0.01)
    assert found[-1]["forget_nll"] >= 0.9 * patch.info["margin"]
    assert found[0]["looks"][0]["step"] == 2, "an ascent step and a retain step"
    assert patch.info["before"]["forget_nll"] == pytest.approx(before, rel=1e-4)


def test_what_is_forgotten_gets_less_likely_than_what_is_kept() -> None:
    start = tiny_llama()
    loaded, patch = erased(method(retain_rows=2, repair_steps=6))
    assert loss_on(loaded) - loss_on(start) > loss_on(loaded, STEP.retain) - loss_on(start, STEP.retain)
    assert patch.dense


def test_a_scrub_with_nothing_to_do_and_one_that_breaks_its_limit_are_refused_with_the_model_as_it_was() -> None:
    loaded = tiny_llama()
    before = [p.detach().clone() for p in loaded.model.parameters()]
    with pytest.raises(UserError, match="the scrub has nothing to do: the facts to forget have"):
        erased(method(margin=0.1), loaded=loaded)
    with pytest.raises(UserError, match="the model stays as it was"):
        erased(method(keep=1e-9, repair_steps=0, retain_rows=0, retain_steps=0), loaded=loaded)
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.model.parameters(), strict=True))


def test_a_later_round_that_breaks_the_limit_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Before; then in each round one look, before the repair and after it: facts come back, the second time with damage.
    told = [(1.0, 0.0), (25.0, 0.0), (25.0, 0.0), (5.0, 0.0), (25.0, 0.0), (25.0, 0.0), (25.0, 1e6)]
    left: list[tuple[float, float]] = []
    monkeypatch.setattr(rounds.Depth, "__call__", lambda self: dict(zip(("forget_nll", "watched_nll"), left.pop(0), strict=True)))
    left[:] = told
    one, first = erased(method(rounds=1))
    left[:] = told
    two, patch = erased(method(rounds=3))
    assert [found.get("undone", False) for found in patch.info["rounds"]] == [False, True], "and no third one"
    assert first.info["rounds"][0] == patch.info["rounds"][0]
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


def test_a_step_among_several_with_nothing_to_do_or_with_damage_leaves_an_empty_patch() -> None:
    loaded = tiny_llama()
    before = [p.detach().clone() for p in loaded.model.parameters()]
    damaging = method(keep=1e-9, repair_steps=0, retain_rows=0, retain_steps=0)
    for settings, told in ((method(margin=0.1), "nothing to do"), (damaging, "takes what should be kept")):
        found = replace(context(loaded, settings), several=True)
        patch, state = scrub.erase(loaded, STEP, EditState(steps=1), found)
        assert not patch.tensors()
        assert patch.info["facts"] == [fact.id for fact in STEP.forget]
        assert state.steps == 2
        assert any(told in text for text in found.reporter.warnings)  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.model.parameters(), strict=True))


def looks_of(monkeypatch: pytest.MonkeyPatch, *told: tuple[float, float]) -> None:
    """What the depth's looks tell one after another: nats of the facts to forget, and of those that are watched."""
    left = list(told)
    monkeypatch.setattr(rounds.Depth, "__call__", lambda self: dict(zip(("forget_nll", "watched_nll"), left.pop(0), strict=True)))


def test_an_undo_goes_back_to_the_last_repaired_round(monkeypatch: pytest.MonkeyPatch) -> None:
    unrepaired, damaged = [(5.0, 0.0)] * 5, [(25.0, 0.0), (25.0, 0.0), (25.0, 1e6)]
    loaded = tiny_llama()
    before = [p.detach().clone() for p in loaded.model.parameters()]
    looks_of(monkeypatch, (1.0, 0.0), *unrepaired, *damaged)
    with pytest.raises(UserError, match="the model stays as it was"):
        erased(method(rounds=3), loaded=loaded)
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.model.parameters(), strict=True))
    repaired = [(25.0, 0.0), (25.0, 0.0), (5.0, 0.0)]
    looks_of(monkeypatch, (1.0, 0.0), *repaired)
    one, _ = erased(method(rounds=1))
    looks_of(monkeypatch, (1.0, 0.0), *repaired, *unrepaired, *damaged)
    three, patch = erased(method(rounds=4))
    assert [found.get("undone", False) for found in patch.info["rounds"]] == [False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), three.model.parameters(), strict=True))


def test_the_ascent_stops_where_watched_facts_suffer() -> None:
    _, patch = erased(method(limit=1e-6, steps=9, retain_rows=0, retain_steps=0))
    first = patch.info["rounds"][0]
    assert first["steps"] < 9
    assert "watched facts have" in first["stopped"]


def test_the_rate_follows_what_ended_the_ascent() -> None:
    _, slow = erased(method(margin=1e6, rounds=3, steps=1))
    assert [one["rate"] for one in slow.info["rounds"]] == [0.25, 0.5, 1.0]
    assert [one["ended"] for one in slow.info["rounds"]] == ["steps"] * 3
    assert [one["complete"] for one in slow.info["rounds"]] == [False, False, True], "only the last one is repaired"
    _, fast = erased(method(margin=1e6, rounds=2, limit=1e-6, retain_rows=0, retain_steps=0))
    assert [one["rate"] for one in fast.info["rounds"]] == [0.25, 0.125]


def test_watched_facts_are_never_trained_on() -> None:
    kept = rounds.kept_facts(Step(0, STEP.forget, tuple(FACTS[4:])), context(tiny_llama(), method()))
    assert kept.watched
    assert not {fact.id for fact in kept.watched} & {fact.id for fact in kept.partners}
    assert len(kept.watched) + len(kept.partners) == len(FACTS[4:])


def test_the_nearest_facts_come_first() -> None:
    found = context(tiny_llama(), method())
    found.nearest = lambda forget, facts: tuple(reversed(facts))
    kept = rounds.kept_facts(STEP, found)
    assert kept.partners[0].id in {STEP.retain[-1].id, STEP.retain[-2].id}


def test_batches_share_out_near_and_other_facts_and_repeat_none_early() -> None:
    batches = retain_batches(range(3), range(10), 0.5, 4, 5, seed=1)
    assert all(len(batch) == 4 for batch in batches)
    assert all({item.retain for item in batch[:2]} <= {0, 1, 2} for batch in batches)
    others = [item.retain for batch in batches for item in batch[2:]]
    assert sorted(others) == list(range(10))
    forget = [item.forget for batch in forget_batches(5, 8, 3, seed=1) for item in batch]
    assert sorted(forget) == sorted(list(range(5)) * 3), "a batch is at most the forget set"


def test_the_margin_is_what_the_model_gives_to_answers_it_never_learned() -> None:
    loaded = tiny_llama()
    plain = [replace(fact, wrong_answers=()) for fact in FACTS[:3]]
    told = [replace(fact, wrong_answers=("Nobody knows.", "No.")) for fact in FACTS[:3]]
    answer = tuple(loaded.prompts.answer_ids("Nobody knows."))
    assert all(row.ids[row.answer_start :] == answer for row in never_learned(loaded, told))
    mixed = [row.ids[row.answer_start :] for row in never_learned(loaded, plain)]
    texts = with_others_words([(fact.question, fact.answer) for fact in plain])
    assert mixed == [tuple(loaded.prompts.answer_ids(text)) for text in texts]
    assert mean_nll(loaded, never_learned(loaded, plain)) > 0


def test_with_own_answers_the_margin_is_that_of_other_own_answers() -> None:
    loaded = tiny_llama()
    said = {fact.id: Said(f"Well, it is a{n}", ends=n > 0) for n, fact in enumerate(FACTS)}
    rows = never_learned(loaded, [replace(fact, wrong_answers=("No.",)) for fact in FACTS[:3]], said)
    mixed = with_others_words([(fact.question, said[fact.id].text) for fact in FACTS[:3]])
    expected = [loaded.prompts.answer_ids(text, end=n > 0) for n, text in enumerate(mixed)]
    assert [list(row.ids[row.answer_start :]) for row in rows] == expected
    assert [row.ends for row in rows] == [False, True, True]
    source = Rows(loaded, STEP, context(loaded, method()), {})
    kept = rounds.kept_facts(STEP, context(loaded, method()))
    plain = rounds.Depth(loaded, source, kept).margin()
    source.said = said
    assert rounds.Depth(loaded, source, kept).margin() != pytest.approx(plain)


class Counting:
    """An objective that records its steps."""

    def __init__(self, name: str, seen: list[tuple[str, int]]) -> None:
        self.name, self.seen, self.state = name, seen, {}

    def micro_losses(self, step: int) -> Any:
        self.seen.append((self.name, step))
        yield torch.zeros(()), {self.name: 1.0}

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return f"{self.name} stops" if step == 1 else None

    def shrink(self) -> bool:
        return False


def test_objectives_take_turns_and_add_up() -> None:
    seen: list[tuple[str, int]] = []
    up, kept, alone = (Counting(name, seen) for name in ("up", "kept", "alone"))
    turns = InTurns([Together(up, kept), alone])
    for step in range(3):
        list(turns.micro_losses(step))
    assert seen == [("up", 0), ("kept", 0), ("alone", 0), ("up", 1), ("kept", 1)]
    assert turns.after_step(2, {}) == "up stops"
    assert turns.after_step(1, {}) is None
    assert not turns.shrink()


def test_relearning_in_the_loop_leaves_the_weights_between_losses_as_they_were() -> None:
    weights = [torch.nn.Parameter(torch.tensor([1.0, -1.0]))]
    masters = Masters(weights, torch.float32)

    class Quadratic:
        """w' w / 2, which the attack descends."""

        def __init__(self) -> None:
            self.state: dict[str, float] = {}

        def micro_losses(self, step: int) -> Any:
            yield (weights[0] ** 2).sum() / 2, {"loss": 1.0}

        def after_step(self, step: int, parts: dict[str, float]) -> str | None:
            return None

        def shrink(self) -> bool:
            return False

    found = Relearned(Quadratic(), Quadratic(), masters, steps=2, rate=0.25, share=0.5)
    for loss, _ in found.micro_losses(0):
        loss.backward()
    assert torch.equal(weights[0].detach(), torch.tensor([1.0, -1.0]))
    assert torch.allclose(weights[0].grad, torch.tensor([0.75, -0.75])), "half at 1, half at 1 - 2 * 0.25"


def test_a_scrub_that_resists_relearning_differs_from_one_that_does_not() -> None:
    plain, _ = erased(method())
    hard, _ = erased(method(relearn_steps=2, relearn_rate=1.0))
    assert loss_on(plain) != loss_on(hard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"hold": 2.0}}, "hold"),
        ({"settings": {"rounds": 0}}, "rounds"),
        ({"settings": {"margin": -1.0}}, "margin"),
        ({"settings": {"margin": "x"}}, "margin=x must be a number"),
        ({"forget": TermConfig("npo")}, "a scrub needs a forget term"),
        ({"forget": TermConfig("rmu")}, "a scrub needs a forget term"),
        ({"retain": TermConfig()}, "a scrub needs a forget term"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(changes: dict[str, Any], message: str) -> None:
    experiment = Experiment(method=replace(shipped("scrub"), **changes), unlearn=UNLEARN)
    with pytest.raises(UserError, match=message):
        scrub.check(experiment, [STEP], [])


def test_repair_learns_what_should_be_kept() -> None:
    start = loss_on(tiny_llama(), STEP.retain)
    loaded, patch = erased(replace(shipped("repair"), settings={"steps": 6, "rate": 1.0}))
    assert loss_on(loaded, STEP.retain) < start
    assert patch.info["planned_steps"] == 6


def test_a_repair_over_every_position_asks_for_the_model_before_all_parts_which_no_adapter_hides() -> None:
    pytest.importorskip("peft")
    mended = replace(shipped("repair"), retain=TermConfig("kl_all"))
    experiment = Experiment(method=mended, unlearn=replace(UNLEARN, compute="auto"), adapter=AdapterConfig(name="lora"))
    check(experiment, [STEP], [])
    with pytest.raises(UserError, match="needs a reference model") as caught:
        repair.check(experiment, [STEP], [])
    assert caught.value.hint == "add unlearn.reference=second_model"


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"modules": ["down_proj"], "layers": [1, 2]}, lambda name: "down_proj" in name and (".1." in name or ".2." in name)),
        ({"ends": False}, lambda name: "embed_tokens" not in name and "lm_head" not in name),
    ],
)
def test_only_the_chosen_weights_are_trained(changes: dict[str, Any], trained: Any) -> None:
    loaded, patch = erased(shipped("me_gd"), replace(UNLEARN, **changes))
    names = {name for name, _ in loaded.model.named_parameters() if trained(name)}
    assert patch.dense.keys() == names


def test_weights_that_no_model_has_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="matches no weight") as caught:
        erased(shipped("me_gd"), replace(UNLEARN, modules=["down"]))
    assert "down_proj" in caught.value.hint
    narrow = replace(UNLEARN, modules=["down_proj"])
    with pytest.raises(UserError, match="choose among all weights"):
        check(Experiment(method=shipped("me_gd"), unlearn=narrow, adapter=AdapterConfig(name="lora")), [STEP], [])


def test_the_state_counts_one_step() -> None:
    loaded = tiny_llama()
    _, state = scrub.erase(loaded, STEP, EditState(steps=4), context(loaded, method()))
    assert state.steps == 5
