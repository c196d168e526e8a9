"""Erases nothing: scores a model as it is, such as the retain-only model that serves as a baseline."""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel

CHANGES_NOTHING = True


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Return an empty patch."""
    info = {"step": step.index, "facts": [fact.id for fact in step.forget], "changed_share": 0.0}
    return Patch(None, {}, {}, info), replace(state, steps=state.steps + 1)
