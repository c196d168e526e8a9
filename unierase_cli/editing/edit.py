"""Edits facts: searches z, then writes a share of the residual into each layer's down projection (spec 2.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.contracts import Reporter, SilentReporter, UserError
from unierase_cli.editing.checkpoints import search_values
from unierase_cli.editing.keys import Budget, FactPasses
from unierase_cli.editing.moments import solving_device
from unierase_cli.editing.nullspace import Preservation
from unierase_cli.editing.patch import joined
from unierase_cli.editing.penalty import Trial, with_least_alpha
from unierase_cli.editing.reach import through_norm
from unierase_cli.editing.report import LayerReport, average_reports
from unierase_cli.editing.solve import LayerState, LowRank, mean_free_energy, ridge_for, solve
from unierase_cli.editing.spans import EditRequest
from unierase_cli.editing.state import EditState
from unierase_cli.editing.values import Values, join_values
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.models.architecture import Architecture
from unierase_cli.models.devices import device_of
from unierase_cli.models.mlp_output import output_norm
from unierase_cli.sizes import pass_tokens


@dataclass
class Editing:
    """The inputs of an edit.

    ``preservation(layer, config)`` returns B; ``refusal_starts`` are the first tokens of refusals for the runner-up term.
    """

    weights: AppliedPatch
    config: EditConfig
    layers: Sequence[int]
    preservation: Callable[[int, EditConfig], Preservation]
    reporter: Reporter
    refusal_starts: Sequence[int] = ()
    # Prompts whose outputs the first edit preserves, as later edits preserve those of earlier ones.
    held: Sequence[EditRequest] = ()
    # Prompts whose first answer tokens decide alpha (edit.keep_first).
    watched: Sequence[Sequence[int]] = ()
    # Folder for finished searches for z until the step is complete; None saves nothing.
    checkpoints: Path | None = None

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.config.solve_dtype == "float32" else torch.float64


@dataclass
class Edited:
    """Factors per layer, z of every fact, and the report of every layer."""

    factors: dict[int, LowRank]
    values: Values
    reports: list[LayerReport] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)


def edit_facts(editing: Editing, requests: Sequence[EditRequest], state: EditState) -> tuple[Edited, EditState]:
    """Edit facts jointly, or one after another with ``one_by_one``; the model is left edited.

    Returns the state with these edits added; ``state`` itself is not changed.
    """
    state = replace(state, layers=dict(state.layers))
    if not editing.config.one_by_one:
        edited = _edit_jointly(editing, requests, state, f"{state.steps:03d}")
    else:
        _fix_ridges(editing, requests, state)
        edited = _edit_one_by_one(editing, requests, state)
    for report in edited.reports:
        change, base = editing.weights.change(report.layer)
        report.relative_norm = change / base
    return edited, state


def _edit_one_by_one(editing: Editing, requests: Sequence[EditRequest], state: EditState) -> Edited:
    before = {layer: editing.weights.total(layer) for layer in editing.layers}
    parts: list[Edited] = []
    quiet = replace(editing, reporter=SilentReporter())
    with editing.reporter.progress("editing one by one", len(requests)) as advance:
        for index, request in enumerate(requests):
            parts.append(_edit_jointly(quiet, [request], state, f"{state.steps:03d}-{index:05d}"))
            advance()
    factors = {layer: joined([p.factors[layer] for p in parts]) for layer in editing.layers}
    # The same sum as when the saved patch is applied: one product per step, not one per fact.
    for layer, factor in factors.items():
        editing.weights.put(layer, before[layer])
        editing.weights.add(layer, factor)
    reports = [average_reports(same) for same in zip(*(p.reports for p in parts), strict=True)]
    return Edited(factors, join_values([p.values for p in parts]), reports)


def _fix_ridges(editing: Editing, requests: Sequence[EditRequest], state: EditState) -> None:
    """Set relative lambdas from the mean over all facts of the first step, not from the first fact alone."""
    config = editing.config
    missing = [layer for layer in editing.layers if state.layers.get(layer, LayerState()).lambda_ is None]
    if config.lambda_kind == "absolute" or not missing:
        return
    keys, _ = _passes(editing, requests, state).keys(missing)
    for layer in missing:
        energy = mean_free_energy(_finite(editing, keys[layer], layer), editing.preservation(layer, config))
        state.layers[layer] = LayerState(ridge_for(energy, config.lambda_, config.lambda_kind))


def _hold(editing: Editing, held: Tensor, keys: Tensor, preservation: Preservation, known: LayerState) -> LayerState:
    """The layer's state with the ``held`` keys as edits without a change, using the ridge of ``keys``."""
    config, fixed = editing.config, known.lambda_
    if fixed is None:
        fixed = ridge_for(mean_free_energy(keys, preservation), config.lambda_, config.lambda_kind)
    nothing = held.new_zeros(editing.weights.loaded.architecture.hidden_size, held.shape[1])
    start = LayerState(fixed)
    return solve(held, nothing, preservation, start, lambda_=config.lambda_, lambda_kind=config.lambda_kind)[1]


def _passes(
    editing: Editing, requests: Sequence[EditRequest], state: EditState, budget: Budget | None = None
) -> FactPasses:
    loaded = editing.weights.loaded
    assert state.templates is not None
    return FactPasses(
        loaded.architecture,
        requests,
        state.templates.weights,
        pad_id=loaded.prompts.pad_id,
        batch_tokens=pass_tokens(loaded.device.type == "cpu"),
        room=loaded.room,
        budget=budget,
    )


def _finite(editing: Editing, seen: Tensor, layer: int) -> Tensor:
    """Activations in the solve's dtype, where the layer is solved. Raises UserError if they are not finite."""
    if not torch.isfinite(seen).all():
        raise UserError(
            f"layer {layer}: activations are not finite", "use model.dtype=float32, or a smaller edit.values.clamp"
        )
    return seen.to(solving_device(device_of(editing.weights.loaded.architecture, layer)), editing.dtype)


def _edit_jointly(editing: Editing, requests: Sequence[EditRequest], state: EditState, name: str) -> Edited:
    """Search z, then write; with watched prompts, with the smallest alpha that keeps their first tokens."""
    loaded, layers = editing.weights.loaded, list(editing.layers)
    values = search_values(
        loaded,
        requests,
        editing.config.values,
        layers[-1],
        refusal_starts=editing.refusal_starts,
        reporter=editing.reporter,
        folder=editing.checkpoints,
        name=name,
    )
    if not editing.watched:
        return _write(editing, requests, state, values)
    before, known = {layer: editing.weights.total(layer) for layer in layers}, dict(state.layers)

    def undo() -> None:
        state.layers.clear()
        state.layers.update(known)
        for layer in layers:
            editing.weights.put(layer, before[layer])

    def write(config: EditConfig) -> Edited:
        return _write(replace(editing, config=config), requests, state, values)

    edited, trials = with_least_alpha(loaded, editing.config, editing.watched, write, undo)
    return replace(edited, trials=trials)


def _write(editing: Editing, requests: Sequence[EditRequest], state: EditState, values: Values) -> Edited:
    """Write a share of the residual into each layer; adds the edit to ``state``."""
    config, layers = editing.config, list(editing.layers)
    loaded = editing.weights.loaded
    edited = Edited({}, values)
    budget = Budget()
    passes, held = (_passes(editing, facts, state, budget) for facts in (requests, editing.held))
    for position, layer in enumerate(layers):
        seen, outputs = passes.keys([layer], outputs_of=[layers[-1]], settled=layer)
        keys, current = _finite(editing, seen[layer], layer), _finite(editing, outputs[layers[-1]], layer)
        missing = values.z.to(current) - current
        if edited.reports:
            edited.reports[-1].residual_after = _mean_norm(missing)
        share, reachable = as_written(loaded.architecture, layer, keys, missing / (len(layers) - position))
        preservation = editing.preservation(layer, editing.config)
        known = state.layers.get(layer, LayerState())
        if editing.held and known.whitened is None:
            others = _finite(editing, held.keys([layer], settled=layer)[0][layer], layer)
            known = _hold(editing, others, keys, preservation, known)
        solution, state.layers[layer] = solve(
            keys,
            share,
            preservation,
            known,
            lambda_=config.lambda_,
            lambda_kind=config.lambda_kind,
        )
        edited.factors[layer] = solution.factor.float()
        editing.weights.add(layer, edited.factors[layer])
        edited.reports.append(
            LayerReport(
                layer,
                preservation.kind,
                preservation.effective_rank,
                preservation.size,
                solution.mean_kbk,
                solution.lambda_,
                solution.applied,
                _mean_norm(missing),
                _mean_norm(missing),
                protected_below=preservation.cutoff,
                reachable=reachable,
            )
        )
    after = passes.keys([], outputs_of=[layers[-1]], settled=layers[-1])[1][layers[-1]]
    edited.reports[-1].residual_after = _mean_norm(values.z.to(after) - after)
    return edited


def as_written(architecture: Architecture, layer: int, keys: Tensor, residuals: Tensor) -> tuple[Tensor, float | None]:
    """The change that the projection of ``layer`` needs at the keys [d, n] for the block to add ``residuals`` [h, n].

    Also the mean share of the residuals that it reaches. Unless the block normalises the projection's output, these are
    the residuals themselves and None.
    """
    norm = output_norm(architecture, layer)
    if norm is None:
        return residuals, None
    changes, reached = through_norm(norm.gain, architecture.projected(layer, keys.T).T, residuals)
    return changes, float(reached.mean())


def _mean_norm(residual: Tensor) -> float:
    """Mean length of the columns."""
    return float(residual.norm(dim=0).mean())
