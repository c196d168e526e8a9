"""SAM and an adversarial LoRA around a gradient method: the numbers of the formula, what sees the adapter, and off by default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import logsigmoid

from tests.helpers import golden_depth
from tests.helpers.gradient_steps import STEP, UNLEARN, erased, loss_on, shipped
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import UserError
from unierase_cli.methods import scrub
from unierase_cli.methods.gradient_checks import check
from unierase_cli.training.optimisation import Masters
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.sharpness import Sharpened
from unierase_cli.training.unlearning.views import View


class Losses:
    """An objective of one loss, with a record of its values."""

    def __init__(self, compute) -> None:
        self.compute, self.seen, self.state = compute, [], {}

    def micro_losses(self, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        loss = self.compute()
        self.seen.append(loss.item())
        yield loss, {"loss": loss.item()}

    def after_step(self, step: int, parts: dict[str, float]) -> str | None:
        return None

    def shrink(self) -> bool:
        return False


def test_golden_perturbed_loss_and_gradient_match(shared: Path | None) -> None:
    if shared is None:
        pytest.skip("no golden files")
    folder = shared / "golden" / "depth"
    record = golden_depth.read(folder, "losses/losses.json")["npo_sam"]
    stored = load_file(folder / "repselect" / "repselect_batches.safetensors")
    ids, mask, labels = (stored[f"batch0.forget.{key}"] for key in ("input_ids", "attention_mask", "labels"))
    rows = RowBatch(ids, mask, labels, torch.ones(ids.shape))
    loaded, reference, beta = golden_depth.model(folder, "mix"), golden_depth.model(folder, "full"), record["beta"]
    with torch.no_grad():
        before = View(reference, rows).nll.mean()
    wanted = Losses(lambda: -2 / beta * logsigmoid(beta * (View(loaded, rows).nll.mean() - before)))
    weights = list(loaded.model.parameters())
    for weight in weights:
        weight.requires_grad_(True)
    kept = [weight.detach().clone() for weight in weights]
    try:
        for loss, _ in Sharpened(wanted, Masters(weights, torch.float32), record["rho"]).micro_losses(0):
            loss.backward()
        assert wanted.seen == pytest.approx([record["loss_at_theta"], record["loss_perturbed"]], rel=1e-4)
        norm = float(torch.stack([weight.grad.norm() for weight in weights]).norm())
        assert norm == pytest.approx(record["perturbed_forget_grad_l2"], rel=1e-4)
        assert all(torch.equal(weight, value) for weight, value in zip(weights, kept, strict=True))
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None


def test_a_radius_changes_the_result_and_none_does_not() -> None:
    plain, _ = erased(shipped("npo_gd"))
    off, _ = erased(shipped("npo_gd"), replace(UNLEARN, sharpness=0.0))
    on, patch = erased(shipped("npo_gd"), replace(UNLEARN, sharpness=0.5))
    assert loss_on(plain) == loss_on(off) != loss_on(on)
    assert {"forget", "retain", "retain_nll"} <= patch.info["losses"][0].keys()


def test_losses_whose_coefficients_move_are_refused() -> None:
    with pytest.raises(UserError, match="sharpness=0.1 needs a forget term"):
        check(Experiment(method=shipped("pdu"), unlearn=replace(UNLEARN, sharpness=0.1)), [STEP], [])


def test_a_scrub_refuses_sharpness_which_it_does_not_read() -> None:
    with pytest.raises(UserError, match="method=scrub does not read unlearn.sharpness=0.1"):
        scrub.check(Experiment(method=shipped("scrub"), unlearn=replace(UNLEARN, sharpness=0.1)), [STEP], [])


def test_the_forget_loss_is_taken_with_an_adapter_that_recalls_and_the_retain_loss_without() -> None:
    hard = replace(UNLEARN, adversary_rank=4, adversary_lr=1.0, adversary_passes=20, max_steps=1)
    _, plain = erased(shipped("npo_gd"), replace(UNLEARN, max_steps=1))
    loaded, patch = erased(shipped("npo_gd"), hard)
    first, usual = patch.info["losses"][0], plain.info["losses"][0]
    # NPO falls with the answers' likelihood relative to the reference, which was stored without the adapter.
    assert first["forget"] > usual["forget"] + 0.05
    assert first["retain"] == pytest.approx(usual["retain"], rel=1e-5)
    assert not any("lora" in name for name, _ in loaded.model.named_parameters())
    assert patch.dense.keys() == plain.dense.keys()


def test_an_adversary_changes_the_result_and_is_the_same_each_time() -> None:
    hard = replace(UNLEARN, adversary_rank=4, adversary_lr=1.0)
    results = [loss_on(erased(shipped("npo_gd"), config)[0]) for config in (UNLEARN, hard, hard)]
    assert results[0] != results[1] == results[2]


def test_sam_and_an_adversary_go_together() -> None:
    both, _ = erased(shipped("npo_gd"), replace(UNLEARN, adversary_rank=4, adversary_lr=1.0, sharpness=0.5))
    one, _ = erased(shipped("npo_gd"), replace(UNLEARN, adversary_rank=4, adversary_lr=1.0))
    assert loss_on(both) != loss_on(one)


def test_an_adversary_is_refused_beside_trained_adapters_and_by_methods_that_do_not_read_it() -> None:
    config = replace(UNLEARN, adversary_rank=8)
    lora = Experiment(method=shipped("npo_gd"), unlearn=replace(config, compute="auto"), adapter=AdapterConfig("lora"))
    with pytest.raises(UserError, match="adversary_rank adds adapters beside those that adapter=lora trains"):
        check(lora, [STEP], [])
    with pytest.raises(UserError, match="adversary_rank=8 needs a forget term"):
        check(Experiment(method=shipped("pdu"), unlearn=config), [STEP], [])
    with pytest.raises(UserError, match="method=scrub does not read unlearn.adversary_rank=8"):
        scrub.check(Experiment(method=shipped("scrub"), unlearn=config), [STEP], [])
