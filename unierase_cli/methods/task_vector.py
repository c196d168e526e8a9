"""Task arithmetic (arXiv 2212.04089): theta - scale * (theta_over - theta), theta_over trained on the forget set alone."""

from __future__ import annotations

from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient import check
from unierase_cli.models.load import LoadedModel

__all__ = ["check", "erase"]


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Learn the facts even better (``method.forget``), then go ``method.scale`` times that change the other way."""
    return gradient.erase(loaded, step, state, context, negate=context.experiment.method.scale)
