"""SPHERE: the reference's numbers, and as a part that filters the parts before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import golden_depth
from tests.helpers.gradient_steps import STEP, context, shipped
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.contracts import UserError
from unierase_cli.editing.filters import sphere
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient
from unierase_cli.methods import sphere as part


@pytest.mark.parametrize("name", ["eta0.5_alpha0.5", "eta0.8_alpha1.0", "eta0.3_alpha0.25", "eta0.95_alpha0.5"])
def test_golden_filtered_updates_match(shared: Path | None, name: str) -> None:
    if shared is None:
        pytest.skip("no golden files")
    folder = shared / "golden" / "depth"
    given = load_file(folder / "closed_form" / "sphere_inputs.safetensors")
    wanted = load_file(folder / "closed_form" / "sphere_expected.safetensors")[f"{name}.projected_delta"]
    record = golden_depth.read(folder, "closed_form/sphere.json")[name]
    found, directions = sphere(given["weight"], given["delta"], share=record["eta"], strength=record["alpha"])
    assert directions == record["r"]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert float(found.norm()) == pytest.approx(record["norm_after"], rel=1e-5)


def test_a_filter_without_strength_changes_nothing_and_a_full_one_leaves_nothing_along_its_directions() -> None:
    weight, delta = (torch.randn(6, 9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for share, strength in ((0.5, 0.0), (0.0, 0.5)):
        assert torch.equal(sphere(weight, delta, share=share, strength=strength)[0], delta)
    once, _ = sphere(weight, delta, share=0.5, strength=1.0)
    twice, _ = sphere(weight, once, share=0.5, strength=1.0)
    assert torch.allclose(once, twice, atol=1e-6)
    assert float(once.norm()) < float(delta.norm())


def test_the_part_filters_the_change_of_the_parts_before_it() -> None:
    loaded = tiny_llama()
    before = context(loaded, shipped("me_gd"))
    gradient.erase(loaded, STEP, EditState(), before)
    name = "model.layers.1.mlp.down_proj.weight"
    base, changed = before.weights.bases[name].clone(), dict(before.weights.parameters())[name].clone()
    after = replace(before, experiment=replace(before.experiment, method=shipped("sphere")))
    patch, state = part.erase(loaded, STEP, EditState(), after)
    wanted, _ = sphere(base, changed - base, share=0.5, strength=0.5)
    assert torch.allclose(dict(loaded.model.named_parameters())[name], base + wanted, atol=1e-7)
    assert not any("embed" in key or "norm" in key for key in patch.dense)
    assert state.steps == 1


def test_a_filter_with_nothing_before_it_is_refused() -> None:
    loaded = tiny_llama()
    with pytest.raises(UserError, match="filters the change of the parts before it"):
        part.erase(loaded, STEP, EditState(), context(loaded, shipped("sphere")))
