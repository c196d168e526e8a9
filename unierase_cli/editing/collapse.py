"""RepSelect's filter: shrinks a gradient's strongest directions, which all facts share (arXiv 2606.17168; spec depth 1.1)."""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHTINGS = ("soft", "quadratic", "hard")
# act: the input side; grad: the output side.
SIDES = ("both", "act", "grad", "none")


def directions_kept(shape: tuple[int, int], wanted: int | None, rank: int) -> int:
    """How many directions to shrink: an eighth of the smaller side unless ``wanted``, and fewer than the rank."""
    return max(1, min(wanted or round(0.125 * min(shape)), rank - 1))


def collapse(gradient: Tensor, basis: Tensor, *, directions: int | None, weighting: str, sides: str) -> tuple[Tensor, int]:
    """M_U G M_V of a gradient [out, in] in float32, and the number q of directions of ``basis`` [out, in] that are shrunk.

    With the q leading singular triplets of the basis, s_i = S_i / S_q and w_i = 1 - 1 / s_i (``soft``), 1 - 1 / s_i^2
    (``quadratic``) or 1 (``hard``): M_V = I - V diag(w) V', M_U = I - U diag(w) U'. The decomposition is exact and in float64: a
    randomised one differs between seeds by tens of per cent where the spectrum is flat.
    """
    u, s, vh = torch.linalg.svd(basis.double(), full_matrices=False)
    rank = int((s > s[0] * max(basis.shape) * torch.finfo(torch.float32).eps).sum()) if s.numel() else 0
    if rank < 2 or sides == "none":
        return gradient.float(), 0
    q = directions_kept((basis.shape[0], basis.shape[1]), directions, rank)
    relative = s[:q] / s[q - 1]
    weights = {"soft": 1 - 1 / relative, "quadratic": 1 - 1 / relative**2, "hard": torch.ones_like(relative)}[weighting]
    found, left, right = gradient.double(), u[:, :q], vh[:q].T
    if sides in ("both", "act"):
        found = found - (found @ right * weights) @ right.T
    if sides in ("both", "grad"):
        found = found - left @ (weights[:, None] * (left.T @ found))
    return found.float(), q
