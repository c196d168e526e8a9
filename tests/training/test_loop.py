"""The training loop and what it updates with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import FACTS, tiny_llama
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.checkpoints import clear_checkpoints, load_checkpoint, save_checkpoint
from unierase_cli.training.events import EVENTS, Events
from unierase_cli.training.loop import LoopPlan, Progress, _look, fit
from unierase_cli.training.optimisation import Masters, Optimisation, make_optimizer
from unierase_cli.training.sophia import Sophia
from unierase_cli.training.supervised import Example, answer_loss

SETTINGS = Optimisation(1e-2, warmup=0.2)


class Learn:
    """Two micro-batches a step; stops dead at ``stop_at``, says stop at ``enough``."""

    def __init__(self, loaded: LoadedModel, stop_at: int | None = None, enough: int | None = None) -> None:
        prompts = loaded.prompts
        examples = [Example(prompts.prompt(f.question).ids, prompts.answer_ids(f.answer)) for f in FACTS[:4]]
        self.loaded, self.halves, self.stop_at, self.enough = loaded, (examples[:2], examples[2:]), stop_at, enough
        self.state = {"turns": 0.0}
        self.total = sum(len(e.answer_ids) for e in examples)

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        for half in self.halves:
            loss = answer_loss(self.loaded, half, self.total)
            yield loss, {"loss": loss.item()}

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        self.state["turns"] += 1
        return "enough" if step + 1 == self.enough else None


def trained(
    plan: LoopPlan, settings: Optimisation = SETTINGS, dtype: torch.dtype = torch.float32, **stops: int
) -> tuple[LoadedModel, Progress, Learn]:
    loaded = tiny_llama()
    loaded.model.requires_grad_(True)
    objective = Learn(loaded, **stops)
    masters = Masters(list(loaded.model.parameters()), dtype)
    progress = fit(loaded, masters, objective, settings, plan, SilentReporter())
    masters.finish(torch.float32)
    return loaded, progress, objective


def same(first: LoadedModel, second: LoadedModel) -> bool:
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("optimizer", ["adamw", "sophia"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    optimizer: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer)
    plan = LoopPlan(7, seed=0, checkpoint_every=2, directory=tmp_path)
    whole, _, _ = trained(replace(plan, directory=None), settings, dtype)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, settings, dtype, stop_at=5)
    resumed, progress, objective = trained(plan, settings, dtype)
    assert same(whole, resumed)
    assert (progress.steps, len(progress.parts), objective.state["turns"]) == (7, 7, 7)
    steps = [json.loads(line)["step"] for line in (tmp_path / EVENTS).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_a_damaged_checkpoint_is_known_by_its_hash_and_the_one_before_is_used(tmp_path: Path) -> None:
    plan = LoopPlan(6, seed=0, checkpoint_every=2, directory=tmp_path)
    whole, _, _ = trained(replace(plan, directory=None))
    with pytest.raises(KeyboardInterrupt):
        trained(plan, stop_at=5)
    newest = tmp_path / "checkpoint-000004.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-1] ^= 1
    newest.write_bytes(bytes(raw))
    resumed, _, _ = trained(plan)
    assert same(whole, resumed)
    reporter = SilentReporter()
    save_checkpoint(tmp_path, 9, {"x": torch.zeros(1)}, {"identity": {}})
    (tmp_path / "checkpoint-000009.safetensors").write_bytes(b"torn")
    load_checkpoint(tmp_path, {}, reporter)
    assert "checkpoint-000009.safetensors is damaged" in reporter.warnings[0]
    clear_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path, {}, reporter) is None


def test_going_on_with_other_settings_is_refused_and_the_differences_are_shown(tmp_path: Path) -> None:
    plan = LoopPlan(4, seed=0, checkpoint_every=2, directory=tmp_path, identity={"lr": 1e-4, "epochs": 2})
    with pytest.raises(KeyboardInterrupt):
        trained(plan, stop_at=3)
    with pytest.raises(UserError, match="lr was 0.0001, is 0.0003"):
        trained(replace(plan, identity={"lr": 3e-4, "epochs": 2}))


def test_only_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    trained(LoopPlan(6, seed=0, checkpoint_every=1, directory=tmp_path))
    assert sorted(p.stem for p in tmp_path.glob("checkpoint-*.json")) == ["checkpoint-000004", "checkpoint-000005"]


def test_training_ends_early_when_the_objective_or_a_look_says_so() -> None:
    _, progress, _ = trained(LoopPlan(6, seed=0), enough=3)
    assert (progress.steps, progress.stopped) == (3, "enough")
    looks = iter([({"forget": 0.5}, None), ({"forget": 0.1}, "forgotten")])
    _, progress, _ = trained(LoopPlan(6, seed=0, look_every=2, look=lambda: next(looks)))
    assert (progress.steps, progress.stopped) == (4, "forgotten")
    assert progress.looks == [{"step": 2, "forget": 0.5}, {"step": 4, "forget": 0.1}]


def test_a_look_without_scores_has_no_line() -> None:
    reporter, nothing = SilentReporter(), Events(None)
    plan = LoopPlan(6, seed=0, look_every=2, look=lambda: ({}, None))
    _look(plan, Progress(steps=2, parts=[{"loss": 0.5}]), nothing, reporter)
    assert reporter.notes == []
    _look(replace(plan, look=lambda: ({"forget": 0.25}, None)), Progress(steps=2, parts=[{"loss": 0.5}]), nothing, reporter)
    assert reporter.notes == ["step 2: loss 0.500, forget 0.250"]


def test_a_loss_that_is_not_a_number_is_one_clear_line() -> None:
    told = r"training: the (loss|gradient's norm) became (nan|inf) \(step \d of 6\) - lower unlearn.lr"
    with pytest.raises(UserError, match=told):
        trained(LoopPlan(6, seed=0), replace(SETTINGS, lr=1e30))


class Counting(torch.optim.SGD):
    """Keeps a plain number and a tensor per parameter, as bitsandbytes' optimisers do."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                state["seen"] = state.get("seen", torch.zeros_like(parameter)) + parameter.grad.abs()


def test_optimisers_that_count_in_plain_numbers_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Counting] = []

    def make(parameters: list[Tensor], settings: Optimisation) -> Counting:
        made.append(Counting(parameters, lr=settings.lr))
        return made[-1]

    monkeypatch.setattr("unierase_cli.training.loop.make_optimizer", make)
    plan = LoopPlan(6, seed=0, checkpoint_every=2, directory=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, stop_at=5)
    trained(plan)
    assert {state["step"] for state in made[-1].state.values()} == {6}


def test_learning_rates_rise_and_fall() -> None:
    rates = [replace(SETTINGS, lr=1.0).rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert replace(SETTINGS, lr=1.0, schedule="constant", warmup=0.0).rate(9, 10) == 1.0
    cosine = replace(SETTINGS, lr=1.0, schedule="cosine", warmup=0.0)
    assert cosine.rate(0, 10) == 1.0
    assert cosine.rate(10, 10) == pytest.approx(0.05)


def test_a_sophia_step_is_never_longer_than_the_learning_rate_and_without_curvature_is_the_gradients_sign() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0, 0.5]))
    target = torch.tensor([1.0, 1.0, 1.0])
    optimizer = Sophia([weight], lr=0.1, rho=0.04, weight_decay=0.0, batch=1)
    before = weight.detach().clone()
    (weight - target).square().sum().backward()
    optimizer.step()
    assert ((weight - before).abs() <= 0.1 + 1e-7).all()
    for state in optimizer.state.values():
        state["curvature"].zero_()
    free = Sophia([weight], lr=0.1, betas=(0.0, 1.0), rho=0.04, weight_decay=0.0)
    assert weight.grad is not None
    sign, before = weight.grad.sign(), weight.detach().clone()
    free.step()
    assert torch.allclose(before - weight.detach(), 0.1 * sign, atol=1e-6)
    for _ in range(200):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert torch.allclose(weight.detach(), target, atol=0.2)


def test_the_paged_optimizer_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        make_optimizer([torch.zeros(2, 2)], replace(SETTINGS, optimizer="paged_adamw_8bit"))


def test_float32_weights_are_their_own_masters() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    assert Masters([weight], torch.float32).tensors[0] is weight
    copies = Masters([torch.nn.Parameter(torch.ones(2, 2))], torch.bfloat16)
    assert copies.weights[0].dtype == torch.bfloat16
    assert copies.tensors[0].dtype == torch.float32
