"""The report of an edit: per layer how much was free and how much was written, and the share of parameters changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unierase_cli.models.architecture import Architecture


@dataclass
class LayerReport:
    """One layer's edit.

    ``rank``: rank of the projector, or trace of B, out of ``size`` directions. ``applied``: share of the layer's part
    of the residual that is written at the edited keys. ``residual_before`` and ``residual_after``: mean norm of z minus
    the z layer's output over the edited facts. ``relative_norm``: ||dW|| / ||W||, after rounding to the model's dtype.
    ``reachable``: share of the layer's part of the residual that a norm behind the projection can produce, None without
    such a norm.
    """

    layer: int
    preserve: str
    rank: float
    size: int
    mean_kbk: float
    lambda_: float
    applied: float
    residual_before: float
    residual_after: float
    relative_norm: float = 0.0
    protected_below: float = 0.0
    reachable: float | None = None

    def line(self) -> str:
        """One line for the terminal."""
        reach = "" if self.reachable is None else f"reach {self.reachable:.3f} behind the norm, "
        return (
            f"layer {self.layer}: rank {self.rank:.0f} of {self.size} free ({self.preserve}), "
            f"mean k'Bk {self.mean_kbk:.4g}, lambda {self.lambda_:.4g}, applied {self.applied:.3f}, "
            f"{reach}residual {self.residual_before:.3f} -> {self.residual_after:.3f}, "
            f"|dW|/|W| {self.relative_norm:.4f}"
        )


def average_reports(reports: Sequence[LayerReport]) -> LayerReport:
    """One report of several edits of a layer: all numbers are means, including the residuals."""
    first = reports[0]
    names: tuple[str, ...] = ("rank", "mean_kbk", "lambda_", "applied", "residual_before", "residual_after")
    if first.reachable is not None:
        names += ("reachable",)
    means: dict[str, Any] = {name: sum(getattr(r, name) for r in reports) / len(reports) for name in names}
    return LayerReport(**{**asdict(first), **means})


def changed_share(architecture: Architecture, layers: Sequence[int]) -> float:
    """Elements of the edited matrices over all of the model's parameters, each shared parameter counted once."""
    modules = [architecture.backbone, architecture.head]
    sizes = {id(p): p.numel() for module in modules for p in module.parameters()}
    return sum(architecture.projection(n).weight.numel() for n in layers) / sum(sizes.values())
