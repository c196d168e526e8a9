"""Changes of one weight that need no data: noise, pruning, a step towards another model (spec: audit, section 6).

Weights are [out, in] in float32 or better; every function returns a new tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unierase_cli.contracts import UserError


def with_noise(weight: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """``weight`` plus Gaussian noise of ``share`` times its own standard deviation.

    Drawn on the CPU, so that every device gets the same.
    """
    noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return weight + share * weight.std(unbiased=False) * noise.to(weight.device)


def pruned(weight: Tensor, share: float, *, per_row: bool = False, input_norms: Tensor | None = None) -> Tensor:
    """``weight`` with the least important ``share`` of its entries (rounded down) set to 0, of the matrix or of each row.

    An entry's importance is its magnitude, or |w_ij| * ||x_j|| with ``input_norms`` [in] (Wanda, Sun et al. 2023).
    Raises UserError unless ``share`` is between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UserError(
            f"a share of {share:g} of the weights cannot be pruned", "take one between 0 and 1, such as 0.3"
        )
    importance = weight.abs() if input_norms is None else weight.abs() * input_norms.to(weight)
    ranked = importance if per_row else importance.flatten()
    least = ranked.topk(int(share * ranked.shape[-1]), dim=-1, largest=False, sorted=False).indices
    kept = (weight if per_row else weight.flatten()).scatter(-1, least, 0.0)
    return kept.reshape(weight.shape)


def interpolated(weight: Tensor, other: Tensor, amount: float, name: str = "a weight") -> Tensor:
    """``weight`` + ``amount`` * (``other`` - ``weight``): 1 gives the other model's, a negative amount goes away from it.

    Raises UserError if the shapes differ, calling it ``name``.
    """
    if weight.shape != other.shape:
        raise UserError(
            f"{name} is {tuple(weight.shape)} in one model and {tuple(other.shape)} in the other",
            "interpolate between models of one architecture",
        )
    return weight + amount * (other.to(weight) - weight)
