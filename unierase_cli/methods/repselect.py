"""RepSelect (arXiv 2606.17168), one step: ascent along the part of the forget gradient that general text does not use.

The gradient of every MLP matrix, summed over the facts while an adapter strengthens the model's recall of them, loses its
strongest directions, which all text shares. The step is the longest whose divergence from the unedited model on
retain facts (KL, nats per answer token) stays within a budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from unierase_cli.config.checks import number, one_of, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.unlearn import AdapterConfig
from unierase_cli.contracts import Step, UserError, stable_hash
from unierase_cli.editing.budget import longest_step
from unierase_cli.editing.collapse import SIDES, WEIGHTINGS, collapse
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient_checks import refuse_unread
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.own_answers import own_answers
from unierase_cli.methods.rounds import kept_facts
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.terms.base import FORGET, RETAIN
from unierase_cli.methods.trained import describe
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.adapters import Adapter, check_peft
from unierase_cli.training.unlearning.adversary import strengthen
from unierase_cli.training.unlearning.depth import Divergence
from unierase_cli.training.unlearning.rows import RowBatch
from unierase_cli.training.unlearning.views import View

# budget: KL per answer token of retain facts. directions: how many are shrunk per matrix; null: an eighth of its smaller side.
# weighting: soft, quadratic, hard. sides: both, act (inputs), grad (outputs), none. statistics: whose gradient's directions are
# shrunk, forget or retain. lora_rank, lora_lr: of the adapter; rank 0: none.
SETTINGS: Mapping[str, Any] = {
    "budget": 0.01, "directions": None, "weighting": "soft", "sides": "both", "statistics": "forget", "lora_rank": 8,
    "lora_lr": 0.01,
}  # fmt: skip
# The first step of the search, as a share of the weights' norm.
FIRST = 0.01


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise UserError for settings that cannot work."""
    settings = method_settings(SETTINGS, experiment.method)
    for key in ("budget", "lora_lr"):
        positive(f"method.settings.{key}", settings[key])
    positive("method.settings.lora_rank", settings["lora_rank"], zero=True)
    if settings["directions"] is not None:
        number("method.settings.directions", settings["directions"], whole=True)
        positive("method.settings.directions", settings["directions"])
    one_of("method.settings.weighting", settings["weighting"], WEIGHTINGS)
    one_of("method.settings.sides", settings["sides"], SIDES)
    one_of("method.settings.statistics", settings["statistics"], ("forget", "retain"))
    refuse_unread(experiment)
    if settings["lora_rank"]:
        check_peft()


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """One step within the budget. Raises UserError if no step stays within it."""
    settings, reporter = method_settings(SETTINGS, context.experiment.method), context.reporter
    kept = kept_facts(step, context)
    source = Rows(loaded, replace(step, retain=kept.partners), context, {})
    source.said = own_answers(loaded, context, [*step.forget, *kept.partners[: len(step.forget)], *kept.watched], step.index)
    names = mlp_matrices(loaded, context.experiment.unlearn.modules, context.experiment.unlearn.layers)
    size = context.experiment.unlearn.batch_size

    with reporter.phase("gradients"):
        basis = None
        if settings["statistics"] == "retain":
            basis = ascent_gradients(loaded, names, source.batches(RETAIN, kept.partners[: len(step.forget)], size))
        rank, seed = settings["lora_rank"], stable_hash(context.experiment.run.seed, "repselect")
        lora = AdapterConfig("lora", r=rank, alpha=rank, dropout=0.0, targets=names) if rank else None
        adapter = None if lora is None else Adapter(loaded, lora, seed)
        try:
            gradients = ascent_gradients(loaded, names, source.batches(FORGET, step.forget, size), adapter, settings["lora_lr"])
        finally:
            if adapter is not None:
                adapter.remove()
    with reporter.phase("collapse"):
        directions = {name: collapsed(loaded, name, gradients[name], basis or gradients, settings) for name in names}
    parameters = {name: _weight(loaded, name) for name in names}
    base = {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}
    divergence = Divergence(loaded, [source.of_fact(fact) for fact in kept.watched], source.layout(RETAIN))

    def move(length: float) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(base[name].to(parameter.device).float() - length * directions[name].to(parameter.device))

    def cost(length: float) -> float:
        move(length)
        return divergence()

    weight, change = (float(torch.stack([t.float().norm() for t in side.values()]).norm()) for side in (base, directions))
    with reporter.phase("budget"):
        try:
            length, spent, looks = longest_step(cost, settings["budget"], FIRST * weight / max(change, 1e-30))
        finally:
            move(0.0)
    if not length:
        raise UserError(
            f"no step keeps the divergence within method.settings.budget={settings['budget']:g}: the model stays as it was",
            "raise the budget, or restrict the step: unlearn.modules=[down_proj]",
        )
    reporter.note(f"a step of norm {length * change:.3f} over {len(names)} matrices costs {spent:.4f} nats ({looks} evaluations)")
    patch = _patch(loaded, context, {name: base[name].float() - length * directions[name].cpu() for name in names})
    info = describe(loaded, step, patch, context.experiment)
    return replace(patch, info=info | {"step_length": length, "divergence": spent, "evaluations": looks}), replace(
        state, steps=state.steps + 1
    )


def mlp_matrices(loaded: LoadedModel, modules: Sequence[str], layers: Sequence[int] | None) -> list[str]:
    """Names of the linear modules of the blocks' MLPs, restricted to these endings and blocks. Raises UserError if none is left."""
    architecture = loaded.architecture
    chosen = range(architecture.n_blocks) if layers is None else layers
    architecture.check_layers(list(chosen))
    found = []
    for layer in chosen:
        inside = architecture.projection_name(layer).rpartition(".")[0]
        for name, module in loaded.model.get_submodule(inside).named_modules():
            if isinstance(module, nn.Linear | Conv1D) and (not modules or name.endswith(tuple(modules))):
                found.append(f"{inside}.{name}")
    if not found:
        raise UserError(f"no matrix of the MLPs is called {' or '.join(modules)}", "for example unlearn.modules=[down_proj]")
    return found


def ascent_gradients(
    loaded: LoadedModel, names: Sequence[str], batches: Sequence[RowBatch], adapter: Adapter | None = None, lora_lr: float = 0.0
) -> dict[str, Tensor]:
    """Sum over batches of the gradient of minus the mean cross-entropy, as the weights are stored, float32; W - a G is ascent.

    With an ``adapter``, it first learns the batches, and stays on for the gradients.
    """
    if adapter is not None:
        strengthen(loaded, adapter, batches, lora_lr)
    weights = [_weight(loaded, name) for name in names]
    before = [weight.requires_grad for weight in weights]
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for batch in batches:
            loss = -View(loaded, batch).nll.mean()
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                total += gradient.float()
    finally:
        for weight, was in zip(weights, before, strict=True):
            weight.requires_grad_(was)
    return dict(zip(names, sums, strict=True))


def collapsed(
    loaded: LoadedModel, name: str, gradient: Tensor, basis: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Tensor:
    """A matrix' gradient without its common directions, as the weight is stored."""
    turned = isinstance(loaded.model.get_submodule(name), Conv1D)
    g, b = (t.T if turned else t for t in (gradient, basis[name]))
    found, _ = collapse(g, b, directions=settings["directions"], weighting=settings["weighting"], sides=settings["sides"])
    return (found.T if turned else found).contiguous()


def _weight(loaded: LoadedModel, name: str) -> nn.Parameter:
    module: Any = loaded.model.get_submodule(name)
    weight: nn.Parameter = getattr(module, "base_layer", module).weight
    return weight


def _patch(loaded: LoadedModel, context: EraseContext, totals: Mapping[str, Tensor]) -> Patch:
    dense = dict(_rounded(loaded, totals))
    hashes = context.weights.hashes_of(dense)
    for name, tensor in dense.items():
        context.weights.set_dense(name, tensor)
    return Patch(None, {}, hashes, dense=dense)


def _rounded(loaded: LoadedModel, totals: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, total in totals.items():
        yield f"{name}.weight", total.to(_weight(loaded, name).dtype)
