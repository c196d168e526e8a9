"""A chain of methods: each part changes the model as the parts before it left it, and leaves a patch of its own.

For example a scrub that removes a fact from the weights, then UniErase, which answers for it with a refusal. Token rows and
second moments are those of the model before all parts: measured again on the scrubbed model, the edit came out the same to one
fact in forty (small TOFU model, forget01: first token [UNL] on 95.0 and 97.5 per cent).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.attribute import ATTRIBUTION
from unierase_cli.contracts import Step, UserError
from unierase_cli.editing.kept_parts import finished_part, keep_part
from unierase_cli.editing.patch import Patch, changed_parameters
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext, load_method
from unierase_cli.methods.parts import naming, parts_of
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.terms.base import UNLEARNED
from unierase_cli.methods.traits import looks
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.training import processes
from unierase_cli.training.unlearning.token_weights import load_token_weights

# renew: measure second moments again after parts that train (once, after the first request's; not in precise mode).
SETTINGS: Mapping[str, Any] = {"renew": False}


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """The checks of every part; raises UserError."""
    if not experiment.method.chain:
        raise UserError("this chain has no parts", "name them: method=[me_gd,unierase]")
    if experiment.method.editing and processes.world() > 1:
        raise UserError(
            f"method={experiment.method.name} has a closed-form part, which runs in one process",
            "start it without a launcher",
        )
    for name, part in parts_of(experiment).items():
        asked = getattr(load_method(part.method.implemented_by), "check", None)
        if asked is not None:
            with naming(name):
                asked(part, steps, refusals)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Run the parts in order. A part that was finished before an interruption is applied from its patch."""
    parts = parts_of(context.experiment)
    done: list[Patch] = []
    after = state
    for place, (name, experiment) in enumerate(parts.items()):
        # Every part sees the state before the step's count goes up.
        after = replace(after, steps=state.steps)
        kept = None if context.directory is None else finished_part(context.directory, step.index, place, name)
        if kept is not None:
            patch, after = kept
            context.weights.add_patch(patch)
            context.reporter.note(f"{name}: finished before the interruption")
        else:
            tokens = _rows_for(experiment, done, context)
            if tokens is not None:
                context.weights.set_tokens(tokens)
            context.reporter.note(f"part {place + 1} of {len(parts)}: {name}")
            inner = replace(
                context,
                experiment=experiment,
                directory=_folder(context.directory, name),
                tokens=tokens,
                token_weights=_token_weights(experiment, context.attributed),
            )
            if experiment.method.editing and any(one.dense or one.named for one in done) and _renews(context):
                assert context.renewed is not None
                preservation, second_moment = context.renewed()
                inner = replace(inner, preservation=preservation, second_moment=second_moment)
            with naming(name):
                patch, after = load_method(experiment.method.implemented_by).erase(loaded, step, after.before_part(name), inner)
            after = after.after_part(name)
            patch = replace(patch, part=name, info={**patch.info, "part": name})
            last = place == len(parts) - 1
            if context.directory is not None and not last and processes.rank() == 0:
                keep_part(context.directory, step.index, place, patch, after)
        done.append(patch)
    whole = replace(done[-1], before=tuple(done[:-1]))
    return replace(whole, info=_info(loaded, whole, parts)), replace(after, steps=state.steps + 1)


def _rows_for(experiment: Experiment, done: Sequence[Patch], context: EraseContext) -> TokenRows | None:
    """The token rows of a part with the token, or of one that keeps the token's refusals, which must then be in the model.

    Once a part has refined them, they stay so.
    """
    if not experiment.method.token and not any(UNLEARNED in found.rows for found in looks(experiment).values()):
        return None
    return next((one.tokens for one in reversed(done) if one.tokens is not None), context.tokens)


def _renews(context: EraseContext) -> bool:
    return context.renewed is not None and method_settings(SETTINGS, context.experiment.method)["renew"]


def _info(loaded: LoadedModel, whole: Patch, parts: dict[str, Experiment]) -> dict[str, object]:
    """The report of the closed-form part, else of the last one, with those of the others under ``parts``."""
    infos = {one.part: one.info for one in whole.parts}
    main = next((name for name, part in parts.items() if part.method.editing), whole.part)
    share = changed_parameters(whole, loaded) / sum(p.numel() for p in loaded.model.parameters())
    others = {name: info for name, info in infos.items() if name != main}
    return {**infos[main], "part": whole.part, "changed_share": share, "parts": others}


def _token_weights(experiment: Experiment, attributed: Mapping[str, Sequence[float]]) -> Mapping[str, Sequence[float]]:
    path = experiment.unlearn.token_weights
    if path is None or experiment.method.editing:
        return {}
    return attributed if path == ATTRIBUTION else load_token_weights(path)


def _folder(directory: Path | None, name: str) -> Path | None:
    """A part's own folder for what an interrupted run resumes from."""
    if directory is None:
        return None
    folder = directory / f"training-{name}"
    folder.mkdir(exist_ok=True)
    return folder
