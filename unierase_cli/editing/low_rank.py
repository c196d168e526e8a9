"""Measures and compresses changes left @ right.T without forming the matrix; an [h, d] matrix may take 200 MB."""

from __future__ import annotations

import torch
from torch import Tensor

from unierase_cli.editing.solve import LowRank


def inner(a: LowRank, b: LowRank) -> float:
    """<A, B> = sum of the products of all entries, in float64: tr(B' A) = <a.left' b.left, a.right' b.right>."""
    lefts, rights = (x.double().T @ y.double() for x, y in ((a.left, b.left), (a.right, b.right)))
    return float((lefts * rights).sum())


def norm(a: LowRank) -> float:
    """Frobenius norm."""
    root: float = max(inner(a, a), 0.0) ** 0.5
    return root


def negated(a: LowRank) -> LowRank:
    return LowRank(-a.left, a.right)


def transposed(a: LowRank) -> LowRank:
    return LowRank(a.right, a.left)


def shortened(change: LowRank, rank: int) -> tuple[LowRank, float]:
    """The nearest change of rank at most ``rank`` (truncated SVD, in float64), and its share of the squared norm.

    With left = Q S and right = O T the singular values of left @ right.T are those of S @ T.T, [n, n] for n columns.
    """
    q, s = torch.linalg.qr(change.left.double())
    o, t = torch.linalg.qr(change.right.double())
    u, values, v = torch.linalg.svd(s @ t.T, full_matrices=False)
    kept = values[:rank]
    spread: Tensor = kept.sqrt()
    short = LowRank(q @ (u[:, :rank] * spread), o @ (v[:rank].T * spread))
    whole = float(values.square().sum())
    return short.float(), float(kept.square().sum()) / whole if whole else 1.0
