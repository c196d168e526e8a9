"""UNDO: part of the weights becomes noise, then the model as it came in is distilled into what is left, on retain facts.

After Lee et al. 2025, "Distillation robustifies unlearning" (arXiv 2506.06278): facts that an earlier part of a chain only
suppresses should not survive in weights that are rebuilt; this project has not measured that yet. The noise has each tensor's own
spread, which is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from unierase_cli.config.checks import fraction, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient, gradient_checks
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.rounds import check_retained_alone, on_retained
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.trained import Trained
from unierase_cli.models.load import LoadedModel

# noise: share of every matrix that becomes noise; spread: the noise's standard deviation, in those of the matrix. steps: of
# distillation; rows: per forget row of a usual batch; near: share of the rows drawn from the tenth nearest to what is forgotten;
# rate: share of unlearn.lr, falling to 0.
SETTINGS: Mapping[str, Any] = {"noise": 0.3, "spread": 0.5, "steps": 300, "rows": 4, "near": 0.2, "rate": 1.0}


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """The checks of every gradient method, and of the settings above; raises UserError."""
    settings = method_settings(SETTINGS, experiment.method)
    for key in ("noise", "near"):
        fraction(f"method.settings.{key}", settings[key])
    for key in ("steps", "rows", "rate"):
        positive(f"method.settings.{key}", settings[key])
    positive("method.settings.spread", settings["spread"], zero=True)
    if experiment.adapter.name != "none":
        raise UserError("undo needs all weights, not adapters", "leave out adapter=lora")
    if experiment.unlearn.sharding != "none":
        raise UserError("undo needs whole weights, but fsdp shards them", "leave out unlearn.sharding=fsdp")
    check_retained_alone(experiment, steps)
    gradient_checks.check(experiment, steps, refusals)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Add the noise and distil; the teacher is the model before this part (in later requests, with
    ``mode.reference=original``, the original model)."""
    settings = method_settings(SETTINGS, context.experiment.method)
    step, context, plan, seed = on_retained(step, context, settings, "undo")
    noisy = partial(add_noise, share=settings["noise"], spread=settings["spread"], seed=seed)
    return gradient.erase(loaded, step, state, context, plan=plan, start=noisy)


@torch.no_grad()
def add_noise(trained: Trained, share: float, spread: float, seed: int) -> None:
    """W becomes (1 - share) W + share spread std(W) N, N standard normal, for every trained tensor of two dimensions or more."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in trained.masters.tensors:
        if tensor.dim() > 1:
            noise = torch.randn(tensor.shape, generator=generator).to(tensor) * (spread * tensor.std())
            tensor.mul_(1 - share).add_(noise, alpha=share)
    trained.masters.publish()
