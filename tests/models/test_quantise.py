"""Quantising weights and reading them back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.models.quantise import NF4_LEVELS, int4, int8, nf4

Quantise = Callable[[Tensor], Tensor]
SCHEMES: dict[str, Quantise] = {
    "int8_row": int8,
    "int4_group32_sym": partial(int4, group=32, symmetric=True),
    "int4_group32_asym": partial(int4, group=32),
    "nf4_block64": nf4,
}
schemes = pytest.mark.parametrize("quantise", SCHEMES.values(), ids=SCHEMES)


def weight(dtype: torch.dtype = torch.float32) -> Tensor:
    """[6, 70] with an outlier, and a row and a group of zeros."""
    made = torch.randn(6, 70, generator=torch.Generator().manual_seed(0), dtype=dtype)
    made[2] = 0
    made[0, 32:64] = 0
    made[4, 3] = 40
    return made


@pytest.mark.parametrize("name", SCHEMES)
def test_golden_quantised_weights_are_reproduced(shared: Path, name: str) -> None:
    golden = load_file(shared / "golden" / "depth" / "quantise" / "quantise.safetensors")
    for which in ("weight", "edited"):
        found = SCHEMES[name](golden[which])
        assert torch.allclose(found, golden[f"{name}.{which}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["int8_row", "int4_group32_sym", "nf4_block64"])
def test_quantising_twice_is_quantising_once(name: str, dtype: torch.dtype) -> None:
    once = SCHEMES[name](weight(dtype))
    # A scale may come out one rounding apart.
    assert torch.allclose(SCHEMES[name](once), once, rtol=4 * torch.finfo(dtype).eps, atol=0)


@schemes
def test_rows_and_groups_of_zeros_stay_zeros(quantise: Quantise) -> None:
    found = quantise(weight())
    assert bool(found.isfinite().all())
    assert not found[2].any()
    assert not found[0, 32:64].any()
    assert not quantise(torch.zeros(3, 5)).any()


@schemes
def test_a_weight_of_another_type_comes_back_in_float32(quantise: Quantise) -> None:
    narrow = weight().bfloat16()
    assert quantise(narrow).dtype == torch.float32
    assert torch.equal(quantise(narrow), quantise(narrow.float()))


def test_errors_are_at_most_half_a_step_of_int8_and_a_step_of_int4() -> None:
    original = weight(torch.float64)
    largest = original.abs().amax(1, keepdim=True)
    assert bool(((int8(original) - original).abs() <= largest / 127 / 2 + 1e-12).all())
    group, largest = original[:, :32], original[:, :32].abs().amax(1, keepdim=True)
    assert bool(((int4(original, 32, symmetric=True)[:, :32] - group).abs() <= largest / 7 / 2 + 1e-12).all())
    # Where the asymmetric grid's zero is rounded to a step, up to half of one is cut off at an end.
    spread = group.amax(1, keepdim=True).clamp(min=0) - group.amin(1, keepdim=True).clamp(max=0)
    assert bool(((int4(original, 32)[:, :32] - group).abs() <= spread / 15 + 1e-12).all())


def test_a_short_last_group_has_a_scale_of_its_own() -> None:
    original = torch.ones(1, 5, dtype=torch.float64)
    original[0, 4] = 1e-3
    assert torch.allclose(int4(original, 4, symmetric=True), original, rtol=1e-12)
    assert torch.allclose(nf4(original, 4), original, rtol=1e-12)


def test_a_value_halfway_between_two_levels_goes_to_the_lower_one() -> None:
    middle = (NF4_LEVELS[3] + NF4_LEVELS[4]) / 2
    found = nf4(torch.tensor([[1.0, middle, middle + 1e-9]], dtype=torch.float64))
    assert found.tolist() == [[1.0, NF4_LEVELS[3], NF4_LEVELS[4]]]


def test_int8_rounds_halves_to_even() -> None:
    assert int8(torch.tensor([[127.0, 0.5, 1.5, -2.5]])).tolist() == [[127.0, 0.0, 2.0, -2.0]]


def test_an_empty_group_is_refused() -> None:
    for quantise in (partial(int4, group=0), partial(nf4, block=0)):
        with pytest.raises(UserError, match="groups of 0"):
            quantise(weight())
