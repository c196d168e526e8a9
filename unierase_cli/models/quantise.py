"""Quantising a weight and reading it back: round to nearest, no calibration, no kernel, on any device (spec: audit, section 7).

Weights come as [out, in] and go out in the same shape, in float32 or better; whoever stores them rounds them to the model's type.
GPTQ and AWQ choose better roundings on the same grids by looking at data, which is not imitated here; nor is LLM.int8's split.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unierase_cli.contracts import UserError

GROUP = 128
BLOCK = 64
# The 16 levels of NF4: quantiles of a normal distribution (Dettmers et al. 2023, QLoRA, appendix E).
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Codes:
    """A rounded weight. ``codes``: which value of the grid each entry takes, [out, in]; ``scale``: what its group multiplies that
    by, of the same shape; ``step``: the mean distance of two values of the grid, in scales.
    """

    codes: Tensor
    scale: Tensor
    step: float


def int8(weight: Tensor) -> Tensor:
    """Absmax int8 with one scale per output row; a row of zeros stays one."""
    found = int8_codes(weight)
    return found.codes * found.scale


def int4(weight: Tensor, group: int = GROUP, *, symmetric: bool = False) -> Tensor:
    """Int4 with one scale per ``group`` of neighbouring inputs of a row; the last group may be shorter.

    The asymmetric grid has 16 steps from the smallest to the largest value and always holds 0; the symmetric one goes from -8 to 7
    steps of max|w| / 7. Raises UserError for an empty group.
    """
    found = int4_codes(weight, group, symmetric=symmetric)
    return found.codes * found.scale


def nf4(weight: Tensor, block: int = BLOCK) -> Tensor:
    """NF4 with one scale per ``block`` of consecutive weights, row after row; scales are not quantised.

    A value halfway between two levels goes to the lower one; a block of zeros stays one. Raises UserError for an empty block.
    """
    found = nf4_codes(weight, block)
    levels = torch.tensor(NF4_LEVELS, dtype=found.scale.dtype, device=found.scale.device)
    return levels[found.codes] * found.scale


def int8_codes(weight: Tensor) -> Codes:
    """What ``int8`` rounds to."""
    values = _precise(weight)
    scale = _no_zeros(values.abs().amax(dim=1, keepdim=True) / 127)
    return Codes((values / scale).round().clamp(-127, 127), scale.expand_as(values), 1.0)


def int4_codes(weight: Tensor, group: int = GROUP, *, symmetric: bool = False) -> Codes:
    """What ``int4`` rounds to; the codes count from 0."""
    values = _precise(weight)
    groups = _cut(values, group)
    if symmetric:
        scale = _no_zeros(groups.abs().amax(dim=-1, keepdim=True) / 7)
        codes = (groups / scale).round().clamp(-8, 7)
    else:
        high, low = groups.amax(dim=-1, keepdim=True).clamp(min=0), groups.amin(dim=-1, keepdim=True).clamp(max=0)
        scale = _no_zeros((high - low) / 15)
        zero = (-low / scale).round()
        codes = ((groups / scale).round() + zero).clamp(0, 15) - zero
    whole, scales = (part.flatten(-2)[..., : values.shape[-1]].contiguous() for part in (codes, scale.expand_as(groups)))
    return Codes(whole, scales, 1.0)


def nf4_codes(weight: Tensor, block: int = BLOCK) -> Codes:
    """What ``nf4`` rounds to: indices of NF4_LEVELS."""
    values = _precise(weight)
    blocks = _cut(values.flatten(), block)
    scale = _no_zeros(blocks.abs().amax(dim=-1, keepdim=True))
    levels = torch.tensor(NF4_LEVELS, dtype=values.dtype, device=values.device)
    codes = torch.bucketize(blocks / scale, (levels[1:] + levels[:-1]) / 2)
    whole, scales = (part.flatten()[: values.numel()].reshape(values.shape) for part in (codes, scale.expand_as(blocks)))
    return Codes(whole, scales, 2 / (len(NF4_LEVELS) - 1))


def _precise(weight: Tensor) -> Tensor:
    return weight if weight.dtype == torch.float64 else weight.float()


def _no_zeros(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _cut(values: Tensor, size: int) -> Tensor:
    """[..., n] as [..., groups, size], filled up with zeros, which no scale depends on."""
    if size < 1:
        raise UserError(f"groups of {size} weights cannot share a scale", f"take 1 or more, such as {GROUP}")
    return functional.pad(values, (0, -values.shape[-1] % size)).unflatten(-1, (-1, size))
