"""JensUn's bounded losses: the reference's numbers, zero where nothing is left to do, never above log 2."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import golden_depth
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.methods.terms import jensun, js
from unierase_cli.methods.terms.base import term_loss
from unierase_cli.training.unlearning.losses import jensen_shannon
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.views import FrozenView, View


def batch(folder: Path, kind: str) -> RowBatch:
    stored = load_file(folder / "repselect" / "repselect_batches.safetensors")
    ids, mask, labels = (stored[f"batch0.{kind}.{key}"] for key in ("input_ids", "attention_mask", "labels"))
    return RowBatch(ids, mask, labels, torch.ones(ids.shape))


def test_golden_losses_and_gradients_match(shared: Path | None) -> None:
    if shared is None:
        pytest.skip("no golden files")
    folder = shared / "golden" / "depth"
    record = golden_depth.read(folder, "losses/losses.json")
    loaded, reference = golden_depth.model(folder, "mix"), golden_depth.model(folder, "full")
    weights = list(loaded.model.parameters())
    settings = {**jensun.SETTINGS, "tokens": record["jensun_forget"]["tokens"]}
    losses = {
        "jensun_forget": lambda: term_loss(jensun, {"forget": View(loaded, batch(folder, "forget"))}, settings),
        "jensun_retain": lambda: term_loss(
            js, {"retain": View(loaded, batch(folder, "retain"), FrozenView(reference, batch(folder, "retain")))}, {}
        ),
    }
    for weight in weights:
        weight.requires_grad_(True)
    try:
        for name, compute in losses.items():
            loss = compute()
            assert loss.item() == pytest.approx(record[name]["loss"], abs=1e-5)
            gradients = torch.autograd.grad(loss, weights)
            norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
            assert norm == pytest.approx(record[name]["grad_l2"], rel=1e-4)
    finally:
        for weight in weights:
            weight.requires_grad_(False)


def test_the_divergence_is_symmetric_zero_for_equals_and_log_two_for_opposites() -> None:
    first, second = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    found = jensen_shannon(first, second)
    assert found.tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)
    assert torch.allclose(found, jensen_shannon(second, first))


def test_tokens_that_the_model_does_not_have_are_refused() -> None:
    loaded = tiny_llama()
    ids = torch.tensor([[5, 6, 7]])
    rows = {"forget": View(loaded, RowBatch(ids, torch.ones_like(ids), ids.clone(), torch.ones(ids.shape)))}
    with pytest.raises(UserError, match="tokens has 1000000"):
        jensun.values(rows, {**jensun.SETTINGS, "tokens": [1_000_000]})
