"""LoRA negation: an adapter learns the forget set and is merged with a negative sign, W - scale * s B A.

Task arithmetic restricted to the adapted modules. There is no reference implementation: rank and scale are our own choice.
"""

from __future__ import annotations

from unierase_cli.config.checks import adapter_at_hand
from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient import check
from unierase_cli.models.load import LoadedModel

__all__ = ["check", "erase"]


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Train the adapter on the step's facts and take ``method.scale`` times its change away. Raises UserError without one."""
    experiment = context.experiment
    adapter_at_hand(experiment.method.name, experiment.adapter.name)
    return gradient.erase(loaded, step, state, context, negate=experiment.method.scale)
