"""What a norm behind the down projection lets through of a wanted change (spec section 8: Gemma 2 and 3, OLMo 2).

Such a block adds N(m) = gain * m / rms(m) to the residual stream instead of the projection's output m. Whatever is written into
the projection, the block adds a point of the ellipsoid {gain * u : rms(u) = 1}. So the edit aims at the point of it that is
nearest to N(m) + r: with Lagrange's condition u = gain * t / (gain^2 + mu), t = N(m) + r, and mu chosen such that rms(u) = 1. For a
t on the ellipsoid mu is 0 and this is the exact inverse, t / gain. Where t lies beyond it, mu > 0 also keeps gains near zero from
blowing a coordinate up. How far the new output is from the origin does not matter behind the norm; it keeps rms(m).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Halvings of the interval that mu lies in: more than float64 has bits.
HALVINGS = 80


def through_norm(gain: Tensor, outputs: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """The change of the projection's outputs [h, n] by which N(outputs + change) comes nearest to N(outputs) + residuals [h, n].

    ``gain``: [h], not all zero. Also returns the share of each residual that it reaches, 1 - (distance left) / (its norm), [n].
    """
    gain = gain.to(residuals)[:, None]
    size = _rms(outputs)
    unit = outputs / size
    wanted = gain * unit + residuals
    aim = nearest(gain, wanted)
    left = (gain * aim - wanted).norm(dim=0)
    return size * (aim - unit), 1 - left / _floored(residuals.norm(dim=0))


def nearest(gain: Tensor, wanted: Tensor) -> Tensor:
    """u [h, n] of rms 1 such that ``gain`` [h, 1] * u is the nearest to ``wanted`` [h, n].

    A point inside of the ellipsoid is moved outwards on the ray through it: the nearest one would put all that is missing into
    the coordinates with the smallest gains, where it does nothing.
    """
    low = torch.zeros_like(wanted[:1])
    # Beyond it rms(u) <= rms(gain * wanted) / mu < 1.
    high = _rms(gain * wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = _rms(_solved(gain, wanted, middle)) > 1
        low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
    found = _solved(gain, wanted, high)
    return found / _rms(found)


def _solved(gain: Tensor, wanted: Tensor, mu: Tensor) -> Tensor:
    return gain * wanted / _floored(gain.square() + mu)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of the columns, [1, n]."""
    return _floored(x.square().mean(0, keepdim=True).sqrt())


def _floored(x: Tensor) -> Tensor:
    """To divide by."""
    return x.clamp(min=torch.finfo(x.dtype).tiny)
