"""AlphaEdit (arXiv 2410.02355): closed-form edit with a hard null space towards plain text, by default a refusal.

Delta = R K' P [ (K K' + K_p K_p') P + lambda I ]^-1
"""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import erase_closed_form, text_targets
from unierase_cli.models.load import LoadedModel

PRESERVE = "null_space"


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Edit the step's facts to refusals, or to ``edit.text``."""
    config = replace(context.experiment.edit, preserve=PRESERVE)
    targets = text_targets(loaded, step.forget, config, context.refusals, context.experiment.run.seed)
    return erase_closed_form(loaded, step, state, context, config=config, targets=targets)
