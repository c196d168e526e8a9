"""LoRA negation: an adapter learns the forget set and is merged with a negative sign, W - scale * s B A.

Task arithmetic restricted to the adapted modules. There is no reference implementation; rank and scale are our choice.
"""

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
from unierase_cli.methods.traits import check_adapter
from unierase_cli.models.load import LoadedModel

__all__ = ["check", "erase"]

# scale: factor of the subtracted change.
SETTINGS: Mapping[str, Any] = {"scale": 1.0}
NEEDS_ADAPTER = True


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Train the adapter on the step's facts and subtract ``scale`` times its change. Raises UserError without an adapter."""
    check_adapter(context.experiment)
    scale = method_settings(SETTINGS, context.experiment.method)["scale"]
    return gradient.erase(loaded, step, state, context, scale=-scale)
