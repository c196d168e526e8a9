"""ZeroUnlearn's closed form: the reference's numbers, and what its two projections leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.closed_form import CONFIG, LAYERS, context, step
from tests.helpers.tiny_models import tiny
from unierase_cli.config.sections.model import MethodConfig
from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.state import EditState
from unierase_cli.editing.zero_unlearn import Weights, forgetting, projector, transform
from unierase_cli.methods import zero_unlearn


@pytest.mark.parametrize("layer", [0, 1])
def test_golden_weights_match(shared: Path | None, layer: int) -> None:
    if shared is None:
        pytest.skip("no golden files")
    folder = shared / "golden" / "depth" / "closed_form"
    given = {name: tensor.double() for name, tensor in load_file(folder / "zero_unlearn_inputs.safetensors").items()}
    expected = load_file(folder / "zero_unlearn_expected.safetensors")
    weight, keys = given[f"weight.{layer}"], given[f"keys.{layer}"]
    away = projector(given[f"values_true.{layer}"], Weights().epsilon)
    assert torch.allclose(away, expected[f"projector.{layer}"].double(), atol=1e-5)
    towards = given[f"values.{layer}"] + (given["targets_new"] - given[f"current_block_output.{layer}"]) / (2 - layer)
    moment, cross = given["second_moment"], given[f"cross_moment.{layer}"]
    found = transform(weight, keys, towards, away, moment, Weights(), cross)
    wanted = expected[f"new_weight.{layer}"].double()
    assert float((found @ weight - wanted).norm() / wanted.norm()) < 1e-5
    assert float((found - expected[f"transform_fp64.{layer}"]).norm() / found.norm()) < 1e-5


def system() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight, keys, true = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((6, 10), (10, 2), (6, 2)))
    texts = torch.randn(10, 40, generator=generator, dtype=torch.float64)
    return weight, keys, true, texts @ texts.T / 40


def test_projecting_everything_projects_what_is_kept_too() -> None:
    weight, keys, true, moment = system()
    away = projector(true, 0.01)
    assert torch.allclose(transform(weight, keys, weight @ keys, away, moment, Weights()), away, atol=1e-8)


def test_projecting_what_is_forgotten_is_of_low_rank_and_nothing_without_weight() -> None:
    weight, keys, true, moment = system()
    away = projector(true, 0.01)
    change = forgetting(weight, keys, weight @ keys, away, moment, Weights())
    assert change.left.shape[1] == change.right.shape[1] == 2
    assert torch.equal(forgetting(weight, keys, weight @ keys, away, moment, Weights(forget=0.0)).left, torch.zeros(6, 2).double())
    # The same as its definition, A B^-1 W with P in front of the forget term alone.
    chosen = Weights()
    a = (chosen.keep * weight @ moment + chosen.forget * away @ weight @ keys @ keys.T + chosen.ridge * weight) @ weight.T
    b = weight @ (chosen.keep * moment + chosen.forget * keys @ keys.T + chosen.ridge * torch.eye(10).double()) @ weight.T
    assert torch.allclose(weight + change.dense(), a @ torch.linalg.inv(b) @ weight, atol=1e-8)
    # An input that shares nothing with the facts' keys stays as it is.
    free = torch.linalg.svd((change.right.T).double())[2][-1]
    assert torch.allclose(change.dense() @ free, torch.zeros(6).double(), atol=1e-8)


def test_as_many_facts_as_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="6 facts and a hidden size of 6") as caught:
        projector(torch.randn(6, 6).double(), 0.01)
    assert "mode=sequential" in caught.value.hint


def test_behind_a_norm_what_is_written_keeps_the_size_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, seen = tiny("gemma2"), []

    def written(weight: Tensor, keys: Tensor, towards: Tensor, *others: Any) -> LowRank:
        seen.append(((weight @ keys).norm(dim=0), towards.norm(dim=0)))
        return forgetting(weight, keys, towards, *others)

    monkeypatch.setattr(zero_unlearn, "forgetting", written)
    given = context(loaded, CONFIG)
    inner = loaded.architecture.inner_size(LAYERS[0])
    given = replace(given, second_moment=lambda _: torch.eye(inner, dtype=torch.float64), refusals=["No idea."])
    config = replace(CONFIG, target="refusal")
    given = replace(given, experiment=replace(given.experiment, edit=config, method=MethodConfig("zero_unlearn")))
    zero_unlearn.erase(loaded, step(), EditState(), given)
    assert len(seen) == len(given.layers)
    for before, after in seen:
        torch.testing.assert_close(before, after)
