"""Repair: some steps on retain facts alone, usable after any method of a chain.

With ``method.retain.term=kl`` it distils from the model before all parts instead of learning the retain answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient, gradient_checks
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.rounds import check_retained_alone, on_retained
from unierase_cli.methods.settings import method_settings
from unierase_cli.models.load import LoadedModel

# steps: of training; rows: per forget row of a usual batch; near: share of the rows drawn from the tenth nearest to what is
# forgotten; rate: share of unlearn.lr, falling to 0.
SETTINGS: Mapping[str, Any] = {"steps": 60, "rows": 4, "near": 0.5, "rate": 0.5}


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """The checks of every gradient method, and of the settings above; raises UserError."""
    settings = method_settings(SETTINGS, experiment.method)
    for key in ("steps", "rows", "rate"):
        positive(f"method.settings.{key}", settings[key])
    fraction("method.settings.near", settings["near"])
    check_retained_alone(experiment, steps)
    gradient_checks.check(experiment, steps, refusals, original=True)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Train on retain facts; a reference is the model before all parts."""
    settings = method_settings(SETTINGS, context.experiment.method)
    step, context, plan, _ = on_retained(step, context, settings, "repair")
    return gradient.erase(loaded, step, state, context, plan=plan, original=True)
