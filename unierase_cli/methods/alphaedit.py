"""AlphaEdit (arXiv 2410.02355): closed-form edit with a hard null space towards plain text, by default a refusal.

Delta = R K' P [ (K K' + K_p K_p') P + lambda I ]^-1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import erase_closed_form, text_targets
from unierase_cli.models.load import LoadedModel

PRESERVE = "null_space"


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise UserError for ``edit.keep_first``: a null space has no alpha."""
    if experiment.edit.keep_first is not None:
        raise UserError(
            f"edit.keep_first chooses alpha, and the null space of method={experiment.method.name} has none",
            "leave it out, or choose another method: method=memit",
        )


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Edit the step's facts to refusals, or to ``edit.text``."""
    config = replace(context.experiment.edit, preserve=PRESERVE)
    targets = text_targets(loaded, step.forget, config, context.refusals, context.experiment.run.seed)
    return erase_closed_form(loaded, step, state, context, config=config, targets=targets)
