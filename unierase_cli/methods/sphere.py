"""SPHERE (arXiv 2510.01172) as a part of a chain: takes out of the change so far what lies along the weights' main directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from unierase_cli.config.checks import fraction
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.filters import sphere
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.trained import describe
from unierase_cli.models.load import LoadedModel

# share: of the trace that the directions hold; strength: how much of the change along them is taken out, 1 for all of it.
SETTINGS: Mapping[str, Any] = {"share": 0.5, "strength": 0.5}


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise UserError for settings outside [0, 1]."""
    for key, value in method_settings(SETTINGS, experiment.method).items():
        fraction(f"method.settings.{key}", value)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Filter the change of every matrix of the blocks since the unedited model. Raises UserError if there is none."""
    settings, weights = method_settings(SETTINGS, context.experiment.method), context.weights
    inside = f"{loaded.architecture.blocks_name}."
    dense, kept = {}, {}
    for name, parameter in weights.parameters():
        if parameter.dim() != 2 or not name.startswith(inside):
            continue
        base = weights.bases[name].float()
        turned = isinstance(loaded.model.get_submodule(name.rpartition(".")[0]), Conv1D)
        before, delta = (t.T if turned else t for t in (base, parameter.detach().cpu().float() - base))
        found, kept[name] = sphere(before, delta, share=settings["share"], strength=settings["strength"])
        dense[name] = (base + (found.T if turned else found)).to(parameter.dtype).contiguous()
    dense = {name: tensor for name, tensor in dense.items() if not torch.equal(tensor, dict(weights.parameters())[name].cpu())}
    if not dense:
        raise UserError(
            "sphere filters the change of the parts before it, and there is none that it would alter",
            "put it after another method: method=[me_gd,sphere]",
        )
    hashes = weights.hashes_of(dense)
    for name, tensor in dense.items():
        weights.set_dense(name, tensor)
    patch = Patch(None, {}, hashes, dense=dense)
    return replace(patch, info=describe(loaded, step, patch, context.experiment) | {"directions": kept}), replace(
        state, steps=state.steps + 1
    )
