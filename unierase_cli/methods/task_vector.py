"""Task arithmetic (arXiv 2212.04089): theta - scale * (theta_over - theta), theta_over trained on the forget set alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient import check
from unierase_cli.methods.settings import method_settings
from unierase_cli.models.load import LoadedModel

__all__ = ["check", "erase"]

# scale: factor of the subtracted change.
SETTINGS: Mapping[str, Any] = {"scale": 1.0}


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Overfit on the facts (``method.forget``), then subtract ``scale`` times that change."""
    scale = method_settings(SETTINGS, context.experiment.method)["scale"]
    return gradient.erase(loaded, step, state, context, scale=-scale)
