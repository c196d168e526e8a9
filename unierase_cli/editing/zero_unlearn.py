"""ZeroUnlearn's closed form (arXiv 2605.18879; spec depth 2): a new output basis that lacks what writes the facts.

With n facts, keys K [d, n], values V = W K [h, n], residuals R [h, n] towards the new answers, the second moment C [d, d] of what
is kept, and P = (1 + eps) I - U U', where U spans the values that write the true answers:

    all:     W' = A B^-1 W,  A = P (lw X + lf (V + R) K' + lam W) W',  B = W (lw C + lf K K' + lam I) W',  X = W C
    forget:  A = (lw X + lf P (V + R) K' + lam W) W', which is W' = W + lf (P (V + R) - W K) K' W' B^-1 W, of rank n

``all`` is the reference's: every output loses its part in the span of U, those of kept text too. ``forget`` projects the
forgotten values alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.solve import LowRank

PROJECTS = ("forget", "all")


@dataclass(frozen=True)
class Weights:
    """lw, lf and lam of the objective, and eps of the projector; the reference's values."""

    keep: float = 15000.0
    forget: float = 50.0
    ridge: float = 1.0
    epsilon: float = 0.01


def check_size(h: int, n: int) -> None:
    """Raise UserError for as many facts n as hidden dimensions h, whose values span everything."""
    if n >= h:
        raise UserError(
            f"ZeroUnlearn with {n} facts and a hidden size of {h}: their values span everything, and nothing would be left",
            f"forget fewer than {h} facts at a time: mode=sequential mode.step_size={max(1, h // 8)}",
        )


def projector(true_values: Tensor, epsilon: float) -> Tensor:
    """P [h, h]: 1 + eps off the span of the true values [h, n], eps on it. Raises UserError as ``check_size`` does."""
    h, n = true_values.shape
    check_size(h, n)
    u, s, _ = torch.linalg.svd(true_values, full_matrices=False)
    basis = u[:, s > s[0] * max(h, n) * torch.finfo(torch.float64).eps]
    eye = torch.eye(h, dtype=true_values.dtype, device=true_values.device)
    found: Tensor = (1 + epsilon) * eye - basis @ basis.T
    return found


def transform(
    weight: Tensor, keys: Tensor, wanted: Tensor, projection: Tensor, moment: Tensor, weights: Weights, cross: Tensor | None = None
) -> Tensor:
    """D [h, h] of ``all``, with W' = D W; ``wanted``: V + R [h, n]; ``cross``: X [h, d], else W C. Everything in float64."""
    cross = weight @ moment if cross is None else cross
    a = projection @ (weights.keep * cross + weights.forget * wanted @ keys.T + weights.ridge * weight) @ weight.T
    found: Tensor = torch.linalg.solve(_normal(weight, keys, moment, weights), a, left=False)
    return found


def forgetting(
    weight: Tensor, keys: Tensor, wanted: Tensor, projection: Tensor, moment: Tensor, weights: Weights
) -> LowRank:
    """The change of ``forget``, of rank n. Everything in float64."""
    left = weights.forget * (projection @ wanted - weight @ keys)
    inner = torch.linalg.lstsq(_normal(weight, keys, moment, weights), weight @ keys).solution
    return LowRank(left, weight.T @ inner)


def _normal(weight: Tensor, keys: Tensor, moment: Tensor, weights: Weights) -> Tensor:
    """B [h, h]."""
    eye = torch.eye(moment.shape[0], dtype=moment.dtype, device=moment.device)
    found: Tensor = weight @ (weights.keep * moment + weights.forget * keys @ keys.T + weights.ridge * eye) @ weight.T
    return found
