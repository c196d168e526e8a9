"""UniErase (arXiv 2505.15674): edit each fact's question to be answered with its unlearning token, which leads to a refusal.

``edit.target=refusal`` or ``text`` edits straight to the sentence, without the token, as an ablation.
"""

from __future__ import annotations

from dataclasses import replace

from unierase_cli.contracts import Fact, Step, UserError, evenly_spaced
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.closed_form import Targets, erase_closed_form, text_targets
from unierase_cli.models.load import LoadedModel


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Edit the step's facts; with ``context.refine``, then retrain the token's rows to refuse on the edited model."""
    config = context.experiment.edit
    to_token = config.target == "token"
    if to_token:
        targets = token_targets(step, context)
    else:
        targets = text_targets(loaded, step.forget, config, context.refusals, context.experiment.run.seed)
    patch, state = erase_closed_form(loaded, step, state, context, config=config, targets=targets, runner_up=to_token)
    if to_token and context.refine is not None and patch.tokens is not None:
        with context.reporter.phase("refine token"):
            rows = context.refine(loaded, patch.tokens, refined_on(step))
        context.weights.set_tokens(rows)
        patch = replace(patch, tokens=rows)
    return patch, state


def refined_on(step: Step) -> list[Fact]:
    """The facts whose refusals the token's rows learn after the step: its own and as many of all earlier ones, so that late
    steps take no longer than the second.
    """
    return [*evenly_spaced(step.forgotten_before, len(step.forget)), *step.forget]


def token_targets(step: Step, context: EraseContext) -> Targets:
    """Fact id -> the unlearning token of the fact's group."""
    if context.tokens is None:
        raise UserError(
            "this edit needs an unlearning token",
            "set method.token=true, or edit straight to refusals: edit.target=refusal",
        )
    return {fact.id: [context.tokens.token_of(fact.id)] for fact in step.forget}
