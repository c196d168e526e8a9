"""Shared code of the closed-form methods: turn facts into requests, edit, and record the change as a patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import torch

from unierase_cli.config.sections.edit import EditConfig
from unierase_cli.contracts import Fact, Step, UserError, continuing
from unierase_cli.editing.edit import Edited, Editing, edit_facts
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.report import changed_share
from unierase_cli.editing.spans import EditRequest, make_requests, without_subject
from unierase_cli.editing.state import EditState
from unierase_cli.editing.templates import choose_templates
from unierase_cli.methods.base import EraseContext
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.partial import length_sorted_batches, pad_sequences
from unierase_cli.sizes import pass_tokens
from unierase_cli.training.token.targets import choose_targets, listed_refusals

Targets = Mapping[str, Sequence[int]]


def text_targets(
    loaded: LoadedModel, facts: Sequence[Fact], config: EditConfig, refusals: Sequence[str], seed: int
) -> Targets:
    """Fact id -> ids of the target text and the end token: ``edit.text``, else a refusal chosen by a stable hash."""
    if config.text is not None and config.target != "refusal":
        return {fact.id: replacement_ids(loaded, fact, config.text) for fact in facts}
    if not refusals:
        raise UserError("there is no refusal to edit to", "give token.targets=FILE or edit.target=text edit.text='...'")
    chosen = choose_targets(facts, refusals, seed)
    return {fact.id: replacement_ids(loaded, fact, chosen[fact.id]) for fact in facts}


def replacement_ids(loaded: LoadedModel, fact: Fact, text: str) -> list[int]:
    """Ids of a text in the place of the fact's answer, end token included."""
    return loaded.prompts.answer_ids(continuing(fact, text), style=fact.kind)


def erase_closed_form(
    loaded: LoadedModel,
    step: Step,
    state: EditState,
    context: EraseContext,
    *,
    config: EditConfig,
    targets: Targets,
    runner_up: bool = False,
) -> tuple[Patch, EditState]:
    """Edit the step's facts to their targets. The returned patch carries ``context.tokens`` unchanged.

    Raises UserError if the edit leaves the weights unchanged.
    """
    reporter, seed = context.reporter, context.experiment.run.seed
    if state.templates is None:
        state = replace(state, templates=choose_templates(loaded, config.templates, seed))
    assert state.templates is not None
    requests = make_requests(loaded.prompts, step.forget, targets, state.templates.prefixes, context.key_position)
    if context.key_position == "subject_last" and (lost := without_subject(step.forget)):
        reporter.note(f"{lost} of {len(requests)} facts have no subject and are edited at their prompt's last token")
    # Held facts need no target: only the keys of their prompts are used.
    nothing = {fact.id: () for fact in step.hold}
    held = make_requests(loaded.prompts, step.hold, nothing, state.templates.prefixes, context.key_position)
    starts = (
        {
            loaded.prompts.answer_ids(text, style=kind)[0]
            for text, kind in product(listed_refusals(step.forget, context.refusals), {fact.kind for fact in step.forget})
        }
        if runner_up and config.values.runner_up
        else set()
    )
    editing = Editing(
        context.weights,
        config,
        context.layers,
        context.preservation,
        reporter,
        sorted(starts),
        held,
        () if config.keep_first is None else context.watched,
        context.directory,
    )
    base_hashes = context.weights.hashes(context.layers)
    with reporter.phase("edit"):
        edited, state = edit_facts(editing, requests, state)
    if context.weights.unchanged():
        raise UserError(
            "the edit is without effect: every edited matrix is identical to base after rounding",
            "lower edit.lambda_, raise edit.values.clamp, or protect less (edit.preserve=ridge, a smaller edit.alpha)",
        )
    info = _describe(loaded, step, requests, edited, context, config)
    return Patch(context.tokens, edited.factors, base_hashes, info), replace(state, steps=state.steps + 1)


def _describe(
    loaded: LoadedModel,
    step: Step,
    requests: Sequence[EditRequest],
    edited: Edited,
    context: EraseContext,
    config: EditConfig,
) -> dict[str, Any]:
    """The patch's report; its main numbers are also printed."""
    reporter = context.reporter
    reached, first = edited.values.probability, first_token_probability(loaded, requests)
    share = changed_share(loaded.architecture, context.layers)
    for report in edited.reports:
        reporter.note(report.line())
        if report.applied < 0.1:
            reporter.warn(
                f"layer {report.layer}: only {100 * report.applied:.1f} % of the change is written; "
                "lower edit.lambda_ or protect less (edit.threshold, edit.alpha)"
            )
    last = edited.reports[-1]
    if last.reachable is not None and last.reachable < 0.5:
        reporter.warn(
            f"the blocks normalise their MLP outputs: the last edited one reaches only {100 * last.reachable:.0f} % of the "
            "residual there; edit more layers (edit.layers), or lower edit.values.clamp"
        )
    for trial in edited.trials:
        reporter.note(f"alpha {trial.alpha:g}: {100 * trial.kept:.0f} % of held-out questions keep their first answer token")
    if edited.trials and config.keep_first is not None and (most := max(t.kept for t in edited.trials)) < config.keep_first:
        reporter.warn(
            f"no alpha keeps edit.keep_first={config.keep_first:g} of the first answer tokens; the one in use keeps {most:.2f}"
        )
    taken = float((first > 0.5).float().mean())
    reporter.note(
        f"{len(requests)} facts in {len(context.layers)} layers, {100 * share:.2f} % of the parameters; "
        f"P(target) {float(reached.mean()):.3f} with z; first target token {float(first.mean()):.3f} after the edit, "
        f"above one half on {100 * taken:.1f} % of the facts"
    )
    return {
        "step": step.index,
        "facts": [r.fact_id for r in requests],
        "edits_before": len(step.forgotten_before),
        "without_subject": without_subject(step.forget),
        "key_position": context.key_position,
        "preserve": config.preserve,
        "changed_share": share,
        "layers": [asdict(r) for r in edited.reports],
        "values": {
            "probability": reached.tolist(),
            "loss": edited.values.loss.tolist(),
            "looks": edited.values.looks.tolist(),
            "norm_ratio": (
                (edited.values.z - edited.values.start).norm(dim=0) / edited.values.start.norm(dim=0)
            ).tolist(),
        },
        "first_token_probability": first.tolist(),
        **({"alphas": [asdict(trial) for trial in edited.trials]} if edited.trials else {}),
    }


@torch.no_grad()
def first_token_probability(loaded: LoadedModel, requests: Sequence[EditRequest]) -> torch.Tensor:
    """P(first target token) after each bare prompt, with the current weights; [n]."""
    out = torch.zeros(len(requests))

    def look(rows: Sequence[int]) -> torch.Tensor:
        batch = pad_sequences([requests[i].prompts[0].ids for i in rows], loaded.prompts.pad_id, loaded.device)
        hidden = loaded.architecture.backbone(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        last = hidden[torch.arange(len(rows), device=hidden.device), (batch.mask.sum(1) - 1).to(hidden.device)]
        chances = loaded.architecture.logits(last).float().softmax(-1)
        wanted = torch.tensor([requests[i].target[0] for i in rows], device=chances.device)
        return chances.gather(1, wanted[:, None])[:, 0].cpu()

    for batch in length_sorted_batches([len(r.prompts[0].ids) for r in requests], pass_tokens(loaded.device.type == "cpu")):
        for rows, found in loaded.room.parts("prompts to look at", batch, look):
            out[list(rows)] = found
    return out
