"""The low-rank closed form of an edit (spec 2.7, E4 and E5), for both hard and soft preservation.

With B from ``nullspace`` (the free part of a key), keys K [d, n], residuals R [h, n] and the ridge lambda, the edit is

    Delta = R (K' B_m K + lambda I)^-1 (B_m K)'                                                     [h, d]

where B_m is B after m earlier edits, whose outputs it preserves: with their keys K_p and the Cholesky factor L L' =
K_p' B K_p + lambda I, ``whitened`` V = B K_p L'^-1 gives B_m = B - V V'. V is all that later edits need to know about
earlier ones. It grows by V_new = B_m K S'^-1 with S S' = K' B_m K + lambda I, the growth of L by the Schur complement
(E5); then Delta = (R S'^-1) V_new', a product of an [h, n] and a [d, n] factor. For B = P this equals the reference's
dense X = [P (K K' + K_p K_p') + lambda I]^-1 P K R', Delta = X' (E3).

Soft preservation uses the same formula. B = lambda (A + lambda I)^-1 with A = alpha C / mean eigenvalue (A = alpha C
for an absolute alpha) turns it into Delta = R K' (A + lambda I + K K')^-1 for an absolute lambda. A relative lambda is
a share of q = mean k' B k over the edited keys: B is built with the bare number and the solve uses q lambda, so Delta =
R K' (q (A + lambda I) + K K')^-1. Then scaling all keys by a constant leaves the change of the output the same, one
average fact gets 1 / (1 + lambda) of its residual for any model, and only lambda / alpha determines which directions
are free. The hard cut's relative lambda means the same with B = P.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.contracts import UserError
from unierase_cli.editing.nullspace import Preservation


@dataclass
class LowRank:
    """Delta = left @ right.T with left [h, n] and right [d, n]; float32 once it is applied or saved."""

    left: Tensor
    right: Tensor

    def dense(self) -> Tensor:
        """Delta, [h, d]."""
        return self.left @ self.right.T

    def float(self) -> LowRank:
        """The factors as stored in a patch: float32 on the CPU."""
        return LowRank(self.left.to("cpu", torch.float32), self.right.to("cpu", torch.float32))


@dataclass
class LayerState:
    """What later edits of a layer need of earlier ones: the ridge fixed by the first, and V ``whitened`` [d, m]."""

    lambda_: float | None = None
    whitened: Tensor | None = None

    @property
    def edits(self) -> int:
        return 0 if self.whitened is None else self.whitened.shape[1]


@dataclass
class Solution:
    """The edit's factors, in the solve's dtype, and its statistics.

    ``mean_kbk``: mean k' B k over the keys, before earlier edits are subtracted. ``applied``: share of the residual
    that the edit writes at its own keys, sum <Delta k, r> / sum <r, r>.
    """

    factor: LowRank
    mean_kbk: float
    lambda_: float
    applied: float


def ridge_for(mean_kbk: float, lambda_: float, kind: str) -> float:
    """The lambda of the solve: unchanged (absolute) or as a share of mean k' B k (relative)."""
    value = lambda_ if kind == "absolute" else lambda_ * mean_kbk
    if not value > 0:
        raise UserError(
            "the edited keys lie entirely in what is protected (mean k'Bk is 0)",
            "protect less: edit.preserve=ridge, a smaller edit.alpha, or a larger edit.threshold",
        )
    return value


def mean_free_energy(keys: Tensor, preservation: Preservation) -> float:
    """Mean k' B k over keys [d, n]."""
    return float((keys * preservation.apply(keys)).sum(0).mean())


def solve(
    keys: Tensor, residuals: Tensor, preservation: Preservation, state: LayerState, *, lambda_: float, lambda_kind: str
) -> tuple[Solution, LayerState]:
    """One joint edit after those in ``state``; keys [d, n] and residuals [h, n] in the solve's dtype (float64).

    Returns the solution and the state with this edit added; ``state`` itself is not changed. Raises UserError if the
    system cannot be solved (keys that are not finite).
    """
    usable = preservation.apply(keys)
    mean_kbk = float((keys * usable).sum(0).mean())
    ridge = state.lambda_ if state.lambda_ is not None else ridge_for(mean_kbk, lambda_, lambda_kind)
    earlier = None if state.whitened is None else state.whitened.to(keys)
    if earlier is not None:
        usable = usable - earlier @ (earlier.T @ keys)
    gram = keys.T @ usable
    gram = (gram + gram.T) / 2
    eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(gram + ridge * eye)
    if int(failed) or not torch.isfinite(factor).all():
        raise UserError(
            "the edit's linear system can't be solved: keys are not finite or lambda is too small for them",
            "raise edit.lambda_, or look for NaN in the model's weights",
        )
    right = torch.linalg.solve_triangular(factor, usable.T, upper=False).T
    left = torch.linalg.solve_triangular(factor, residuals.T, upper=False).T
    written = left @ (right.T @ keys)
    applied = float((written * residuals).sum() / residuals.square().sum().clamp(min=1e-300))
    whitened = right if earlier is None else torch.cat([earlier, right], dim=1)
    solution = Solution(LowRank(left, right), mean_kbk, ridge, applied)
    return solution, LayerState(ridge, whitened)
