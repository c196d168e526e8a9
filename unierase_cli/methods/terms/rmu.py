"""RMU: steers hidden states of the answers to forget towards one random vector (arXiv 2403.03218)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.checks import number, positive
from unierase_cli.contracts import UserError, stable_hash
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.training.unlearning.rows import IGNORED
from unierase_cli.training.unlearning.views import View

ROWS = (FORGET,)
PER = "row"
# layer: block whose output is steered, null: by depth (``settled``). adaptive: the target of a token is so many times as long as
# its state before unlearning (arXiv 2408.06223), 0: steering_coefficient long. vector: used instead of a random one (length: the
# hidden size), without adaptive as it is. compat: open-unlearning's value (see ``distances``).
SETTINGS: Mapping[str, Any] = {
    "layer": None, "steering_coefficient": 2.0, "adaptive": 0.0, "seed": 0, "vector": None, "compat": False,
}  # fmt: skip
REFERENCE: Mapping[str, str] = {}
# The paper steers block 7 of 32.
DEPTH = 7 / 32


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError for a negative layer or share, a non-positive coefficient, or a vector that is not a list of numbers."""
    if settings["layer"] is not None:
        number("layer", settings["layer"], whole=True)
        positive("layer", settings["layer"], zero=True)
    positive("steering_coefficient", settings.get("steering_coefficient", 1.0))
    positive("adaptive", settings.get("adaptive", 0.0), zero=True)
    given = settings.get("vector")
    if given is not None and not (isinstance(given, Sequence) and all(isinstance(x, int | float) for x in given)):
        raise UserError(f"vector={given} must be a list of numbers, as many as the hidden size", "leave the setting vector out")


def settled(settings: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The settings with a block: the given one, else the one as deep in a model of ``count`` blocks as the paper's."""
    layer = settings["layer"]
    return {**settings, "layer": round(DEPTH * count) if layer is None else layer}


def blocks(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The block whose output the term reads."""
    return (settings["layer"],)


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """Mean over a row's answer tokens (their own positions) of mean_d (h - c)^2; with ``adaptive``, of mean_d (h - adaptive
    |h_before| c / |c|)^2; [B].
    """
    view = rows[FORGET]
    hidden = view.block_output(settings["layer"])
    target = control_vector(hidden.shape[-1], settings).to(hidden)
    if settings["adaptive"]:
        lengths = view.reference.block_output(settings["layer"]).norm(dim=-1, keepdim=True)
        target = settings["adaptive"] * lengths.to(hidden) * target / target.norm()
    return distances(view, hidden, target, settings["compat"])


def reference(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """The states of the answers to forget before unlearning, if the target's length follows theirs."""
    return {FORGET: "blocks"} if settings["adaptive"] else {}


def batch_wide(settings: Mapping[str, Any]) -> bool:
    """With compat, rows depend on each other through a mean over the batch."""
    return bool(settings["compat"])


def control_vector(size: int, settings: Mapping[str, Any]) -> Tensor:
    """c = steering_coefficient u / |u|, u uniform in [0, 1)^d; [d]. Raises UserError if a given vector has another size."""
    given = settings["vector"]
    if given is None:
        generator = torch.Generator().manual_seed(stable_hash(settings["seed"], "rmu control vector"))
        drawn = torch.rand(size, generator=generator)
        norm: Tensor = drawn.norm()
        length: float = settings["steering_coefficient"]
        return drawn / norm * length
    if len(given) != size:
        raise UserError(
            f"vector has {len(given)} numbers, the model's hidden size is {size}", "leave the setting vector out"
        )
    return torch.tensor(list(given))


def distances(view: View, hidden: Tensor, target: Tensor, compat: bool) -> Tensor:
    """Weighted mean over a row's labelled positions of mean_d (hidden - target)^2; [B].

    With ``compat`` each sum is multiplied by the batch mean of 1 / n (n: tokens of a row), because the reference divides [B]
    by [B, 1]. The two agree if all rows have the same length.
    """
    weights = view.batch.weights * (view.batch.labels != IGNORED)
    sums = (weights * (hidden - target).square().mean(dim=-1)).sum(dim=1)
    lengths = weights.sum(dim=1)
    lengths = lengths + (lengths == 0)
    return sums * (1 / lengths).mean() if compat else sums / lengths
