"""What an edit must preserve, as a symmetric matrix B with eigenvalues in [0, 1] (spec 2.6, 2.7; findings 11).

B states how much of a key an edit may use: 1 for a free direction, 0 for a protected one. Hard cut (``null_space``,
AlphaEdit's projector P): B keeps the directions whose second moment is below a threshold. Soft (``ridge``, MEMIT's
weighting): a direction with moment e has B = lambda / (alpha e / mean + lambda), i.e. a direction is half protected if
its moment is the mean eigenvalue times lambda / alpha; an absolute alpha is MEMIT's own weight, with alpha e instead of
alpha e / mean. B is stored as a set of eigenvectors, never as a [d, d] matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.contracts import UserError
from unierase_cli.sizes import WIDENED_ROWS

# Directions that are protected by less than this, or are free by less than this share of the freest one's, are dropped:
# this is far below the error of float32 eigenvectors.
NEGLIGIBLE = 1e-9


@dataclass
class Preservation:
    """B = V' diag(s) V, or with ``complement`` B = (I - V'V) + V' diag(s) V, which adds all that is orthogonal to V.

    V ``vectors`` [r, d]: orthonormal rows. s ``weights`` [r]: how free each direction is.
    """

    size: int
    vectors: Tensor
    weights: Tensor
    complement: bool
    kind: str
    eigenvalue_range: tuple[float, float] = (0.0, 0.0)
    cutoff: float = 0.0

    def apply(self, keys: Tensor) -> Tensor:
        """B @ keys, for keys [d, n], in the keys' dtype and on their device."""
        found = self._within(keys, self.weights)
        if self.complement:
            # Subtracted twice: after one pass, the rounding residue of a protected part can be as large as the free
            # part.
            outside = keys
            for _ in range(2):
                outside = outside - self._within(outside, torch.ones_like(self.weights))
            found += outside
        return found

    def _within(self, keys: Tensor, weights: Tensor) -> Tensor:
        """V' diag(weights) V @ keys."""
        part = torch.zeros_like(keys)
        for start in range(0, self.vectors.shape[0], WIDENED_ROWS):
            rows = self.vectors[start : start + WIDENED_ROWS].to(keys)
            part += rows.T @ (weights[start : start + WIDENED_ROWS].to(keys)[:, None] * (rows @ keys))
        return part

    @property
    def effective_rank(self) -> float:
        """Trace of B: the rank of the projector, or the effective number of free directions under soft preservation."""
        total = float(self.weights.double().sum())
        return self.size - self.vectors.shape[0] + total if self.complement else total

    def to(self, device: torch.device) -> Preservation:
        """The same with its factors on ``device``."""
        return Preservation(
            self.size,
            self.vectors.to(device),
            self.weights.to(device),
            self.complement,
            self.kind,
            self.eigenvalue_range,
            self.cutoff,
        )


def nothing_protected(size: int, kind: str) -> Preservation:
    """B = I: every direction is free."""
    return Preservation(size, torch.zeros(0, size), torch.zeros(0, dtype=torch.float64), True, kind)


def choose_preservation(
    eigenvalues: Tensor, load_rows: Callable[[int, int], Tensor], config: EditConfig, *, layer: int | None = None
) -> Preservation:
    """B from a second moment's eigenvalues [d] (ascending); ``load_rows(start, stop)`` returns eigenvectors as rows.

    Raises UserError with the eigenvalues' range if a hard cut leaves nothing editable or protects nothing.
    """
    values = eigenvalues.double().clamp(min=0)
    span = (float(values[0]), float(values[-1]))
    size = values.numel()
    if config.preserve == "null_space":
        editable, cutoff = _editable(values, config)
        _check_rank(editable, size, cutoff, span, config, layer)
        if editable <= size - editable:
            vectors, complement = load_rows(0, editable), False
        else:
            vectors, complement = load_rows(editable, size), True
        weights = torch.full((vectors.shape[0],), float(not complement), dtype=torch.float64)
        return Preservation(size, vectors, weights, complement, "null_space", span, cutoff)
    mean = float(values.mean())
    if mean == 0.0 or config.alpha == 0.0:
        return nothing_protected(size, "ridge")
    unit = mean if config.alpha_kind == "relative" else 1.0
    moment = config.alpha * values / unit
    held, free = moment / (moment + config.lambda_), config.lambda_ / (moment + config.lambda_)
    # Eigenvalues ascend, so ``held`` ascends and ``free`` descends: both sets are ends of the spectrum.
    first_held, last_free = int((held <= NEGLIGIBLE).sum()), int((free > NEGLIGIBLE * free[0]).sum())
    cutoff = unit * config.lambda_ / config.alpha
    if size - first_held < last_free:
        return Preservation(size, load_rows(first_held, size), free[first_held:], True, "ridge", span, cutoff)
    return Preservation(size, load_rows(0, last_free), free[:last_free], False, "ridge", span, cutoff)


def _editable(values: Tensor, config: EditConfig) -> tuple[int, float]:
    """Number of editable directions (the smallest eigenvalues), and the eigenvalue below which they lie."""
    if config.threshold_kind == "trace_share":
        count = int((values.cumsum(0) <= config.threshold * values.sum()).sum())
        return count, float(values[min(count, values.numel() - 1)])
    cutoff = config.threshold * (float(values[-1]) if config.threshold_kind == "relative_max" else 1.0)
    return int((values < cutoff).sum()), cutoff


def _check_rank(
    editable: int, size: int, cutoff: float, span: tuple[float, float], config: EditConfig, layer: int | None
) -> None:
    if 0 < editable < size:
        return
    where = "" if layer is None else f"layer {layer}: "
    seen = f"eigenvalues run from {span[0]:.3g} to {span[1]:.3g}, the threshold is {cutoff:.3g}"
    ways = "edit.threshold_kind=relative_max edit.threshold=0.02"
    if config.threshold_kind == "relative_max":
        ways = (
            f"edit.threshold={min(1.0, config.threshold * 10):.3g}"
            if editable == 0
            else f"edit.threshold={config.threshold / 10:.3g}"
        )
    if editable == 0:
        raise UserError(f"{where}null space of rank 0, nothing is editable ({seen})", f"raise the threshold: {ways}")
    raise UserError(
        f"{where}null space of full rank {size}, nothing is protected ({seen})", f"lower the threshold: {ways}"
    )
