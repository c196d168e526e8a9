"""How much of a wanted change a norm behind the down projection can produce (spec section 8: Gemma 2 and 3, OLMo 2).

Such a block adds N(m) = gain * m / rms(m) to the residual stream instead of the projection's output m. Whatever is
written into the projection, the block adds a point of the ellipsoid {gain * u : rms(u) = 1}. So the edit aims at its
point nearest to N(m) + r: by Lagrange's condition u = gain * t / (gain^2 + mu), with t = N(m) + r and mu such that
rms(u) = 1. For t on the ellipsoid mu is 0 and this is the exact inverse, t / gain. For t outside it, mu > 0 also keeps
gains near zero from blowing up a coordinate. The norm removes the scale of the new output, so it keeps rms(m).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Bisection steps for mu: more than float64 has bits.
HALVINGS = 80


def through_norm(gain: Tensor, outputs: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """The change of the projection's outputs [h, n] for which N(outputs + change) is nearest to N(outputs) + residuals
    [h, n].

    ``gain``: [h], not all zero. Also returns the share of each residual that it reaches, 1 - (distance left) / (its
    norm), [n].
    """
    gain = gain.to(residuals)[:, None]
    size = _rms(outputs)
    unit = outputs / size
    wanted = gain * unit + residuals
    aim = nearest(gain, wanted)
    left = (gain * aim - wanted).norm(dim=0)
    return size * (aim - unit), 1 - left / _floored(residuals.norm(dim=0))


def nearest(gain: Tensor, wanted: Tensor) -> Tensor:
    """u [h, n] of rms 1 such that ``gain`` [h, 1] * u is nearest to ``wanted`` [h, n].

    A point inside the ellipsoid is scaled outwards instead: the nearest point would put all that is missing into the
    coordinates with the smallest gains, where it has no effect.
    """
    low = torch.zeros_like(wanted[:1])
    # For mu beyond this, rms(u) <= rms(gain * wanted) / mu < 1.
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
    """Clamped to be a safe divisor."""
    return x.clamp(min=torch.finfo(x.dtype).tiny)
