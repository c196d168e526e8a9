"""Filters for a finished update of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the rows' norms, as in the reference.
EPSILON = 1e-8


def sphere(weight: Tensor, delta: Tensor, *, share: float, strength: float) -> tuple[Tensor, int]:
    """SPHERE: Delta (I - strength U U') and the number r of directions U (arXiv 2510.01172; spec depth 3.1).

    U [in, r]: the leading eigenvectors of C = W_hat' W_hat / out, W_hat being the rows of ``weight`` [out, in] scaled to length
    1: one more than those whose eigenvalues sum up to at most ``share`` of the trace. A share or strength of 0 changes nothing.
    """
    if share <= 0 or strength <= 0:
        return delta, 0
    rows = weight.double()
    rows = rows / (rows.norm(dim=1, keepdim=True) + EPSILON)
    values, vectors = torch.linalg.eigh(rows.T @ rows / rows.shape[0])
    values, vectors = values.flip(0), vectors.flip(1)
    r = min(1 + int((values.cumsum(0) / values.sum() <= share).sum()), len(values))
    leading = vectors[:, :r]
    found = delta.double()
    return (found - strength * (found @ leading) @ leading.T).to(delta.dtype), r
