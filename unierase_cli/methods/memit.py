"""MEMIT (arXiv 2210.07229): closed-form edit weighted by the second moment, towards plain text, by default a refusal.

    Delta = R K' (alpha C / mean eigenvalue + lambda I + K K')^-1

``edit=memit_reference`` uses the reference's weights: Delta = R K' (15000 C + K K')^-1.
"""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import erase_closed_form, text_targets
from unierase_cli.models.load import LoadedModel

PRESERVE = "ridge"


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Edit the step's facts to refusals, or to ``edit.text``."""
    config = replace(context.experiment.edit, preserve=PRESERVE)
    targets = text_targets(loaded, step.forget, config, context.refusals, context.experiment.run.seed)
    return erase_closed_form(loaded, step, state, context, config=config, targets=targets)
