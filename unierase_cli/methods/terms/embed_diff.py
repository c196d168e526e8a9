"""RMU's retain term: keeps hidden states of retain answers close to their reference values (arXiv 2403.03218).

With ``refusals`` it also keeps those of refusals to the questions to forget, in a chain with UniErase of those that the unlearning
token leads to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.methods.terms.base import RETAIN, UNLEARNED
from unierase_cli.methods.terms.rmu import batch_wide, blocks, distances, settled
from unierase_cli.methods.terms.rmu import check as check_rmu
from unierase_cli.training.unlearning.views import View

__all__ = ["PER", "REFERENCE", "ROWS", "SETTINGS", "batch_wide", "blocks", "check", "kinds", "reference", "settled", "values"]

ROWS = (RETAIN,)
PER = "row"
# layer, compat: as in rmu. refusals: weight of a refusal; a retain answer has 1.
SETTINGS: Mapping[str, Any] = {"layer": None, "compat": False, "refusals": 0.0}
REFERENCE = {RETAIN: "blocks"}


def check(settings: Mapping[str, Any]) -> None:
    """Raise UserError for what RMU's forget term refuses, and for a negative weight."""
    check_rmu(settings)
    positive("refusals", settings["refusals"], zero=True)


def kinds(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Retain answers, and refusals if they have a weight."""
    return (RETAIN, UNLEARNED) if settings["refusals"] else ROWS


def reference(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """The states of every kind of row before unlearning."""
    return dict.fromkeys(kinds(settings), "blocks")


def values(rows: Mapping[str, View], settings: Mapping[str, Any]) -> Tensor:
    """Mean over a row's answer tokens (their own positions) of mean_d (h - href)^2, plus ``refusals`` times that of its refusal;
    [B].
    """
    found = _moved(rows[RETAIN], settings)
    return found + settings["refusals"] * _moved(rows[UNLEARNED], settings) if settings["refusals"] else found


def _moved(view: View, settings: Mapping[str, Any]) -> Tensor:
    layer = settings["layer"]
    return distances(view, view.block_output(layer), view.reference.block_output(layer), settings["compat"])
