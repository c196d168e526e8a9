"""Stage ``erase``: any method on every step of the mode's plan, each step's change kept as a patch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.contracts import Benchmark, Fact, Reporter, Step, UserError
from unierase_cli.stages.base import Request, StageContext, benchmark_of
from unierase_cli.stages.loading import INDEPENDENT, load_base, model_fingerprints, model_needs
from unierase_cli.stages.moments import wanted_layers
from unierase_cli.stages.planning import is_independent, is_stepwise, plan_of, remarks_of
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.jsonl import append_jsonl, write_jsonl
from unierase_cli.training.token_targets import load_targets

if TYPE_CHECKING:
    from unierase_cli.config.sections.edit import EditConfig
    from unierase_cli.editing.nullspace import Preservation
    from unierase_cli.methods.base import EraseContext
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.models.token_rows import TokenRows

NAME = "erase"
VERSION = 1
STATE = "state.safetensors"
STEPS = "steps.jsonl"
# Seconds of every step, apart from what must come out the same each time.
TIMES = "times.jsonl"
# Of the edit: names, what the moments' key covers, and what has been resolved.
NOT_READ = ("moments", "name", "layers", "key_position")


def uses_token(experiment: Experiment) -> bool:
    """Whether the edit leads to an unlearning token (``edit.target`` can lead a token method straight to a text)."""
    return experiment.method.token and experiment.edit.target == "token"


def reads(experiment: Experiment, options: dict[str, str]) -> dict[str, Any]:
    """The method, the mode, and how it edits or trains; what shaped the token and the moments enters by their keys."""
    model, token = experiment.model, experiment.token
    found = {
        "method": experiment.method.name,
        "mode": experiment.mode.planning(),
        "model": {"dtype": model.dtype, **model.asking()},
        "seed": experiment.run.seed,
    }
    if not experiment.method.editing:
        sampled = {"max_new_tokens": experiment.protocol.max_new_tokens} if experiment.method.name == "altpo" else {}
        return {**found, "trained": what_counts(experiment), **sampled}
    refine = {k: v for k, v in asdict(token).items() if k.startswith("refine")} if token.refine_epochs else {}
    if refine and is_stepwise(experiment):
        refine["refine_earlier"] = "as many as the step's own"
    return {
        **found,
        "edit": {k: v for k, v in asdict(experiment.edit).items() if k not in NOT_READ},
        "layers": wanted_layers(experiment),
        "key_position": key_position(experiment),
        "refine": refine if uses_token(experiment) else {},
    }


def needs(experiment: Experiment, options: dict[str, str]) -> dict[str, Request]:
    found = model_needs(experiment)
    if uses_token(experiment):
        found["train_token"] = Request("train_token")
    if experiment.method.editing:
        found["moments"] = Request("moments")
    return found


def fingerprints(experiment: Experiment, options: dict[str, str]) -> dict[str, str]:
    found = {**model_fingerprints(experiment), "benchmark": benchmark_of(experiment).fingerprint}
    found["refusals"] = hash_json(load_targets(experiment.token))
    if is_stepwise(experiment) or is_independent(experiment):
        steps = plan_of(experiment)
        found["steps"] = hash_json([[fact.id for fact in step.forget] for step in steps])
        if any(step.hold for step in steps):
            found["held"] = hash_json([[fact.id for fact in step.hold] for step in steps])
    weights = experiment.unlearn.token_weights
    if weights is not None and not experiment.method.editing:
        if not Path(weights).is_file():
            raise UserError(f"unlearn.token_weights={weights} is not a file", "check the path")
        found["token_weights"] = hash_file(Path(weights))
    return found


def key_position(experiment: Experiment) -> str:
    """``edit.key_position``, else the model preset's."""
    return experiment.edit.key_position or experiment.model.key_position


def run(context: StageContext) -> dict[str, Any]:
    """Erase step by step; a step that was finished before an interruption is applied from its patch."""
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.state import EditState
    from unierase_cli.methods.base import load_method
    from unierase_cli.training import processes

    experiment, directory = context.experiment, context.directory
    method = load_method(experiment.method.implementation or experiment.method.name)
    benchmark = benchmark_of(experiment)
    steps = plan_of(experiment)
    if experiment.method.editing:
        steps = with_subjects(steps, benchmark, context.reporter)
    for remark in remarks_of(experiment):
        context.reporter.warn(remark)
    # In modes like `precise` every step starts from the original model and hands nothing on.
    independent = is_independent(experiment)
    loaded, erasing = prepare(context, benchmark, several=len(steps) > 1)
    state = EditState.load(directory / STATE) if (directory / STATE).exists() else EditState()
    infos = []
    with context.reporter.progress("erasing", len(steps)) as advance:
        for step in steps[: state.steps]:
            patch = Patch.load(directory, step.index)
            infos.append(patch.info)
            if not independent:
                erasing.weights.add_patch(patch)
                erasing.tokens = patch.tokens
            advance()
        for step in steps[state.steps :]:
            if independent:
                erasing.weights.revert()
                state = EditState(state.steps, state.templates)
            if erasing.tokens is not None:
                erasing.weights.set_tokens(erasing.tokens)
            started = time.perf_counter()
            patch, state = method.erase(loaded, step, state, _for_step(erasing, step))
            if independent:
                patch = replace(patch, info={**patch.info, INDEPENDENT: True})
            else:
                erasing.tokens = patch.tokens
            if processes.rank() == 0:
                patch.save(directory, step.index)
                seconds = round(time.perf_counter() - started, 3)
                append_jsonl(directory / TIMES, [{"step": step.index, "seconds": seconds}])
                state.save(directory / STATE)
                # Saved as done, the step leaves nothing that a later one could go on from.
                _clear(directory)
            infos.append(patch.info)
            advance()
    if processes.rank() == 0:
        # A run that was killed between its last step and the tidying up behind it left these for good.
        _clear(directory)
        write_jsonl(directory / STEPS, infos)
    return _summary(infos)


def _clear(directory: Path) -> None:
    """Remove what interrupted steps would have gone on from; to be called once the last of them is saved."""
    from unierase_cli.editing.checkpoints import clear_values
    from unierase_cli.training.checkpoints import clear_checkpoints
    from unierase_cli.training.token_training import clear_states

    clear_values(directory)
    clear_states(directory)
    for folder in directory.glob("training-*"):
        clear_checkpoints(folder)


def _for_step(erasing: EraseContext, step: Step) -> EraseContext:
    """What a method works with at a step of a mode that cuts the forget set: a batch is no larger than the step's request."""
    experiment, unlearn = erasing.experiment, erasing.experiment.unlearn
    # closer-look's pairing fills a batch from several epochs.
    rows = len(step.forget) * (unlearn.epochs if unlearn.pairing == "closer_look" else 1)
    if experiment.method.editing or unlearn.batch_size <= rows or not (is_stepwise(experiment) or is_independent(experiment)):
        return erasing
    erasing.reporter.note(f"step {step.index + 1}: batches of {rows}, all that there is to forget (unlearn.batch_size)")
    return replace(erasing, experiment=replace(experiment, unlearn=replace(unlearn, batch_size=rows)))


def prepare(context: StageContext, benchmark: Benchmark, *, several: bool = False) -> tuple[LoadedModel, EraseContext]:
    """The model, and what a method works with; ``several``: at more than one step."""
    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.inference.sample import sample
    from unierase_cli.methods.base import EraseContext
    from unierase_cli.models.token_rows import TokenRows
    from unierase_cli.stages.quick_look import quick_look
    from unierase_cli.training.token_weights import load_token_weights

    experiment = context.experiment
    weights = experiment.unlearn.token_weights
    loaded = load_base(experiment, context.inputs, context.reporter)
    named = wanted_layers(experiment)
    layers = loaded.architecture.default_layers() if named is None else named
    loaded.architecture.check_layers(layers)
    return loaded, EraseContext(
        experiment,
        AppliedPatch(loaded),
        layers,
        key_position(experiment),
        _preservations(context, loaded, several),
        context.reporter,
        refusals=load_targets(experiment.token),
        tokens=TokenRows.load(context.inputs["train_token"].path) if "train_token" in context.inputs else None,
        refine=_refinement(context, layers),
        directory=context.directory,
        token_weights={} if weights is None else load_token_weights(weights),
        evaluate=quick_look(loaded, benchmark),
        sample=lambda prompts, seed: sample(loaded, prompts, seed=seed, max_new_tokens=experiment.protocol.max_new_tokens),
    )


def with_subjects(steps: Sequence[Step], benchmark: Benchmark, reporter: Reporter) -> list[Step]:
    """The steps with a subject found for every fact to forget, or to hold, that has none, where one can be found."""
    from unierase_cli.editing.subjects import find_subjects

    given = sum(fact.subject is not None for fact in benchmark.forget)
    found = find_subjects(benchmark.forget)
    if given < len(found):
        named = sum(subject is not None for subject in found) - given
        reporter.note(f"subjects: {given} given, {named} found, {len(found) - given - named} not found")
    subjects = {fact.id: name for fact, name in zip(benchmark.forget, found, strict=True)}

    def told(facts: Sequence[Fact]) -> tuple[Fact, ...]:
        return tuple(replace(fact, subject=subjects.get(fact.id, fact.subject)) for fact in facts)

    return [
        replace(step, forget=told(step.forget), forgotten_before=told(step.forgotten_before), hold=told(step.hold))
        for step in steps
    ]


def _preservations(
    context: StageContext, loaded: LoadedModel, several: bool
) -> Callable[[int, EditConfig], Preservation]:
    """B by layer, from the moments artefact: that of the unedited model at every step. Kept in memory only where it is asked for
    again and again.
    """
    from unierase_cli.editing.moments import StoredMoments, solving_device
    from unierase_cli.models.devices import device_of

    keep: dict[int, Preservation] = {}
    artefact = context.inputs.get("moments")

    def preservation(layer: int, config: EditConfig) -> Preservation:
        if artefact is None:
            raise UserError("this method needs second moments", "set method.editing=true in its yaml")
        if layer in keep:
            return keep[layer]
        stored = StoredMoments(artefact.path, artefact.manifest["summary"]["tokens"])
        found = stored.preservation(layer, config, solving_device(device_of(loaded.architecture, layer)))
        if config.one_by_one or several:
            keep[layer] = found
        return found

    return preservation


def _refinement(
    context: StageContext, layers: list[int]
) -> Callable[[LoadedModel, TokenRows, Sequence[Fact]], TokenRows] | None:
    """How a method trains token rows once more on the edited model; None if that is not wanted."""
    config = context.experiment.token
    if not config.refine_epochs:
        return None
    from unierase_cli.training.token_training import refine_token

    def refine(loaded: LoadedModel, rows: TokenRows, facts: Sequence[Fact]) -> TokenRows:
        return refine_token(
            loaded,
            rows,
            facts,
            config,
            layers=layers,
            seed=context.experiment.run.seed,
            reporter=context.reporter,
            checkpoint_dir=context.directory,
        )

    return refine


def _summary(infos: list[dict[str, Any]]) -> dict[str, Any]:
    first = [p for info in infos for p in info.get("first_token_probability", [])]
    return {
        "steps": len(infos),
        "facts": sum(len(info.get("facts", [])) for info in infos),
        "without_subject": sum(info.get("without_subject", 0) for info in infos),
        "changed_share": infos[-1].get("changed_share"),
        "layers": infos[-1].get("layers"),
        "first_token_probability": sum(first) / len(first) if first else None,
    }
