"""Repair: some steps on retain facts alone, usable after any method of a chain.

With ``method.retain.term=kl`` it distils from the model before all parts instead of learning the retain answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, stable_hash
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient, gradient_checks
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.rounds import kept_facts
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
    gradient_checks.check(experiment, steps, refusals, original=True)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Train on retain facts; a reference is the model before all parts."""
    settings, experiment = method_settings(SETTINGS, context.experiment.method), context.experiment
    kept = kept_facts(step, context)
    size = settings["rows"] * min(experiment.unlearn.batch_size, len(step.forget))
    seed = stable_hash(experiment.run.seed, "repair", step.index)
    plan = kept.batches(settings["near"], size, settings["steps"], seed)
    unlearn = replace(experiment.unlearn, lr=settings["rate"] * experiment.unlearn.lr, schedule="linear", warmup=0.0)
    context = replace(context, experiment=replace(experiment, unlearn=unlearn))
    return gradient.erase(loaded, replace(step, retain=kept.partners), state, context, plan=plan, original=True)
