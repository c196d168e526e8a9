"""What a norm behind the down projection lets through: exact where it can be, nearest where it cannot, never out of bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unierase_cli.editing.reach import through_norm

WIDTH, FACTS = 24, 5


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x: Tensor) -> Tensor:
    return x.square().mean(0).sqrt()


def normalised(gain: Tensor, x: Tensor) -> Tensor:
    return gain[:, None] * x / rms(x)


def gains() -> Tensor:
    return 1 + 0.3 * drawn(0, WIDTH)


def test_a_residual_that_the_norm_can_reach_is_reached_exactly() -> None:
    gain, outputs, other = gains(), 7 * drawn(1, WIDTH, FACTS), drawn(2, WIDTH, FACTS)
    residuals = normalised(gain, other) - normalised(gain, outputs)
    change, reached = through_norm(gain, outputs, residuals)
    torch.testing.assert_close(normalised(gain, outputs + change), normalised(gain, outputs) + residuals)
    torch.testing.assert_close(reached, torch.ones(FACTS, dtype=torch.float64))
    torch.testing.assert_close(rms(outputs + change), rms(outputs))


def test_no_other_output_comes_nearer_to_a_residual_beyond_reach() -> None:
    gain, outputs, residuals = gains(), drawn(1, WIDTH, FACTS), 4 * drawn(2, WIDTH, FACTS)
    wanted = normalised(gain, outputs) + residuals
    change, reached = through_norm(gain, outputs, residuals)
    best = (normalised(gain, outputs + change) - wanted).norm(dim=0)
    torch.testing.assert_close(reached, 1 - best / residuals.norm(dim=0))
    assert ((reached > 0) & (reached < 1)).all()
    for seed in range(200):
        for step in (1e-3, 0.1, 10.0):
            other = outputs + change + step * drawn(seed, WIDTH, FACTS)
            assert ((normalised(gain, other) - wanted).norm(dim=0) >= best - 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gains_near_zero_and_of_zero_do_not_blow_a_change_up(dtype: torch.dtype) -> None:
    gain = gains()
    gain[:4] = torch.tensor([0.0, 1e-30, 1e-9, -1e-4])
    outputs, residuals = drawn(1, WIDTH, FACTS), drawn(2, WIDTH, FACTS)
    change, reached = through_norm(gain.to(dtype), outputs.to(dtype), residuals.to(dtype))
    assert torch.isfinite(change).all()
    assert (change.norm(dim=0) <= 2 * outputs.to(dtype).norm(dim=0) * (1 + 1e-6)).all()
    assert (reached > 0).all()


def test_a_wish_for_less_than_the_norm_gives_is_answered_on_the_same_ray_and_told() -> None:
    gain, outputs = gains(), drawn(1, WIDTH, FACTS)
    change, reached = through_norm(gain, outputs, -0.5 * normalised(gain, outputs))
    assert change.abs().max() < 1e-9
    assert reached.abs().max() < 1e-9
