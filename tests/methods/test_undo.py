"""UNDO: noise in the weights, and what distillation brings back of the model as it came in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.gradient_steps import STEP, UNLEARN, context, erased, shipped
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import MethodConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods import undo
from unierase_cli.methods.terms.kl import divergence
from unierase_cli.methods.trained import Trained
from unierase_cli.models.load import LoadedModel


def method(**settings: Any) -> MethodConfig:
    return replace(shipped("undo"), settings={"steps": 40, "near": 0.5, **settings})


def far_from_before(loaded: LoadedModel) -> float:
    """Mean KL from the untouched model's next-token predictions on the questions to keep, nats."""
    before, total = tiny_llama(), 0.0
    for fact in STEP.retain:
        ids = torch.tensor([loaded.prompts.prompt(fact.question).ids + loaded.prompts.answer_ids(fact.answer)])
        with torch.no_grad():
            total += float(divergence(before.model(ids).logits, loaded.model(ids).logits).mean())
    return total / len(STEP.retain)


def test_noise_takes_its_share_of_every_matrix_and_none_of_the_norms() -> None:
    loaded = tiny_llama()
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    with Trained(loaded, context(loaded, method())) as trained:
        undo.add_noise(trained, share=0.25, spread=2.0, seed=3)
        after = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
        undo.add_noise(trained, share=0.0, spread=2.0, seed=3)
        assert all(torch.equal(after[name], p) for name, p in loaded.model.named_parameters())
    for name, value in before.items():
        noise = (after[name] - 0.75 * value) / 0.25
        if value.dim() < 2:
            assert torch.equal(after[name], value)
        else:
            assert float(noise.std() / value.std()) == pytest.approx(2.0, rel=0.15), name
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters()), "without a patch all is put back"


def test_distillation_brings_back_most_of_what_the_noise_destroyed() -> None:
    strong = replace(UNLEARN, lr=1e-2)
    noisy, _ = erased(method(steps=1, rate=1e-9, noise=0.5, spread=1.0), strong)
    taught, patch = erased(method(noise=0.5, spread=1.0), strong)
    assert far_from_before(taught) < 0.5 * far_from_before(noisy)
    assert patch.info["steps"] == 40


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again = (erased(method(steps=3))[1].dense for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_settings_that_cannot_be_are_refused() -> None:
    for settings, message in (({"noise": 1.5}, "noise"), ({"steps": 0}, "steps"), ({"spread": -1}, "spread")):
        with pytest.raises(UserError, match=message):
            undo.check(Experiment(method=method(**settings), unlearn=UNLEARN), [STEP], [])
    sharded = replace(UNLEARN, sharding="fsdp")
    with pytest.raises(UserError, match="fsdp shards them"):
        undo.check(Experiment(method=method(), unlearn=sharded), [STEP], [])
    with pytest.raises(UserError, match="undo needs at least two questions to retain"):
        undo.check(Experiment(method=method(), unlearn=UNLEARN), [replace(STEP, retain=STEP.retain[:1])], [])
    with pytest.raises(UserError, match="undo trains on questions to retain alone, and method.forget.term=npo reads"):
        undo.check(Experiment(method=replace(method(), forget=TermConfig("npo")), unlearn=UNLEARN), [STEP], [])
    with pytest.raises(UserError, match="undo needs all weights, not adapters"):
        undo.check(Experiment(method=method(), unlearn=UNLEARN, adapter=AdapterConfig("lora")), [STEP], [])
