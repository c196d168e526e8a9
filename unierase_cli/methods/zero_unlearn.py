"""ZeroUnlearn (arXiv 2605.18879): replaces the values of the true answers by those of a refusal, in a basis without the former.

``project=forget`` (ours) changes the forgotten values alone, ``all`` is the reference's. Weights are relative: ``keep`` is the
weight of kept text, per mean eigenvalue of its moment, against that of one mean key of the facts. Contexts: the edit's templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.checkpoints import search_values
from unierase_cli.editing.edit import as_written
from unierase_cli.editing.keys import FactPasses
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.spans import EditRequest, make_requests
from unierase_cli.editing.state import EditState
from unierase_cli.editing.templates import choose_templates
from unierase_cli.editing.zero_unlearn import PROJECTS, Weights, check_size, forgetting, projector, transform
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import text_targets
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.trained import describe
from unierase_cli.models.load import LoadedModel
from unierase_cli.sizes import pass_tokens

# project: forget or all. keep: see above. ridge: as a share of the facts' weight; epsilon: what the projector leaves.
SETTINGS: Mapping[str, Any] = {"project": "forget", "keep": 1.0, "ridge": 0.02, "epsilon": 0.01}


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise UserError for settings that cannot work."""
    settings = method_settings(SETTINGS, experiment.method)
    one_of("method.settings.project", settings["project"], PROJECTS)
    for key in ("keep", "ridge", "epsilon"):
        positive(f"method.settings.{key}", settings[key])


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Edit the layers one after another. Raises UserError with as many facts as hidden dimensions."""
    experiment, weights, layers = context.experiment, context.weights, context.layers
    settings, config = method_settings(SETTINGS, experiment.method), experiment.edit
    if config.keep_first is not None:
        context.reporter.warn("edit.keep_first is not read by ZeroUnlearn, which has no alpha")
    check_size(loaded.architecture.hidden_size, len(step.forget))
    if context.second_moment is None:
        raise UserError("zero_unlearn needs second moments", "run it by `unierase erase`")
    if state.templates is None:
        state = replace(state, templates=choose_templates(loaded, config.templates, experiment.run.seed))
    assert state.templates is not None
    templates = state.templates

    def search(targets: Mapping[str, Sequence[int]], layer: int, name: str) -> tuple[list[EditRequest], torch.Tensor, torch.Tensor]:
        requests = make_requests(loaded.prompts, step.forget, targets, templates.prefixes, context.key_position)
        found = search_values(
            loaded, requests, config.values, layer, reporter=context.reporter, folder=context.directory, name=name
        )
        return requests, found.z.double(), found.start.double()

    hashes = weights.hashes(layers)
    wanted = text_targets(loaded, step.forget, config, context.refusals, experiment.run.seed)
    true = {fact.id: loaded.prompts.answer_ids(fact.answer, style=fact.kind) for fact in step.forget}
    factors: dict[int, LowRank] = {}
    with context.reporter.phase("edit"):
        requests, z, _ = search(wanted, layers[-1], f"{state.steps:03d}-new")
        passes = FactPasses(
            loaded.architecture, requests, templates.weights,
            pad_id=loaded.prompts.pad_id, batch_tokens=pass_tokens(loaded.device.type == "cpu"), room=loaded.room,
        )  # fmt: skip
        for position, layer in enumerate(layers):
            _, reached, start = search(true, layer, f"{state.steps:03d}-true-{layer}")
            seen, outputs = passes.keys([layer], outputs_of=[layers[-1]], settled=layer)
            keys, current = seen[layer].double(), outputs[layers[-1]].double()
            weight = weights.total(layer).double().to(keys.device)
            values = weight @ keys
            # Both changes are of the block's output, which may normalise the projection's.
            change, _ = as_written(loaded.architecture, layer, keys, (z.to(keys) - current) / (len(layers) - position))
            towards = values + change
            moment = context.second_moment(layer).to(keys)
            chosen = _weights(settings, keys, moment)
            true_change, _ = as_written(loaded.architecture, layer, keys, (reached - start).to(keys))
            away = projector(values + true_change, chosen.epsilon)
            if settings["project"] == "all":
                factors[layer] = _exact(transform(weight, keys, towards, away, moment, chosen) @ weight - weight)
            else:
                factors[layer] = forgetting(weight, keys, towards, away, moment, chosen)
            factors[layer] = factors[layer].float()
            weights.add(layer, factors[layer])
    if weights.unchanged():
        raise UserError("the edit is without effect after rounding", "lower method.settings.keep")
    patch = Patch(None, factors, hashes)
    info = describe(loaded, step, patch, experiment) | {"ranks": {layer: f.left.shape[1] for layer, f in factors.items()}}
    return replace(patch, info=info), replace(state, steps=state.steps + 1)


def _weights(settings: Mapping[str, Any], keys: torch.Tensor, moment: torch.Tensor) -> Weights:
    """Weights for keys [d, n] and a moment [d, d]: that of the facts is 1, the others follow from their sizes."""
    energy = float(keys.square().sum(0).mean())
    mean = float(moment.diagonal().mean())
    return Weights(settings["keep"] * energy / max(mean, 1e-30), 1.0, settings["ridge"] * energy, settings["epsilon"])


def _exact(change: torch.Tensor) -> LowRank:
    """A change of full rank [h, d] as a product: with more rows than columns or fewer, one factor is a unit matrix."""
    eye = torch.eye(change.shape[0], dtype=change.dtype, device=change.device)
    return LowRank(eye, change.T.contiguous())
