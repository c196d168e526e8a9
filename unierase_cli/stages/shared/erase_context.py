"""The inputs of a method in stage ``erase``: the model, the token's rows, what the edit preserves, and each step's facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unierase_cli.benchmarks.parts.neighbours import nearest_first
from unierase_cli.config.sections.attribute import ATTRIBUTION
from unierase_cli.contracts import Benchmark, Fact, Reporter, Step, UserError
from unierase_cli.methods.parts import parts_of, with_batches
from unierase_cli.methods.traits import reveals, rows_per_fact
from unierase_cli.pipeline.model_states import load_base
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.attribute import FILE
from unierase_cli.stages.moments import ANSWERED, RECORD, measure, preserved, watched
from unierase_cli.stages.shared.edited_layers import edited_layers, key_position
from unierase_cli.stages.shared.reveal_again import reveal_again
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training.token.targets import load_targets

if TYPE_CHECKING:
    from torch import Tensor

    from unierase_cli.config.sections.edit import EditConfig
    from unierase_cli.editing.nullspace import Preservation
    from unierase_cli.methods.base import EraseContext, Renewed
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.models.token_rows import TokenRows
    from unierase_cli.training.token.guard import Given
    from unierase_cli.training.unlearning.said import Said


def prepare(context: StageContext, *, several: bool = False) -> tuple[LoadedModel, EraseContext]:
    """The model and the context that a method works with; ``several``: whether there is more than one step."""
    from unierase_cli.editing.weights import AppliedPatch
    from unierase_cli.inference.sample import sample
    from unierase_cli.methods.base import EraseContext
    from unierase_cli.models.token_rows import TokenRows
    from unierase_cli.stages.shared.quick_look import quick_look
    from unierase_cli.training.unlearning.token_weights import load_token_weights

    experiment = context.experiment
    weights, attribution = experiment.unlearn.token_weights, context.inputs.get("attribute")
    attributed = {} if attribution is None else load_token_weights(attribution.file(FILE))
    if weights == ATTRIBUTION:
        token_weights = attributed
    else:
        token_weights = {} if weights is None else load_token_weights(weights)
    loaded = load_base(experiment, context.inputs, context.reporter)
    layers = edited_layers(context, loaded)
    revealing = any(reveals(part) for part in parts_of(experiment).values())
    return loaded, EraseContext(
        experiment,
        AppliedPatch(loaded),
        layers,
        key_position(experiment),
        _preservations(context, loaded, several),
        context.reporter,
        refusals=load_targets(experiment.token),
        tokens=TokenRows.load(context.inputs["train_token"].whole) if "train_token" in context.inputs else None,
        refine=_refinement(context, layers),
        directory=context.directory,
        token_weights=token_weights,
        attributed=attributed,
        evaluate=quick_look(loaded, context.study.benchmark),
        nearest=nearest_first,
        answer=lambda prompts, most: greedy_answers(loaded, prompts, most, experiment.eval.batch_size),
        reveal=reveal_again(loaded, experiment, context.directory, context.reporter) if revealing else None,
        second_moment=_second_moment(context),
        watched=[loaded.prompts.prompt(fact.question, fact.kind).ids for fact in watched(context.study)],
        several=several,
        renewed=None if context.study.independent else lambda: _renewed(context, loaded),
        sample=lambda prompts, seed: sample(loaded, prompts, seed=seed, max_new_tokens=experiment.protocol.max_new_tokens),
    )


def greedy_answers(loaded: LoadedModel, prompts: Sequence[list[int]], most: int, batch_size: int) -> list[Said]:
    """Greedy answers of at most ``most`` tokens, none of them an unlearning token."""
    from unierase_cli.inference.generate import answer_text, generate
    from unierase_cli.training.unlearning.said import Said

    found = generate(loaded, prompts, max_new_tokens=most, forbid=loaded.unlearn_ids, batch_size=batch_size)
    return [Said(answer_text(loaded, said), said.stop in ("end", "text")) for said in found]


def for_step(study: Study, erasing: EraseContext, step: Step) -> EraseContext:
    """The context for one step; in a mode that divides the forget set, the batch size is at most the size of the request."""
    if not (study.stepwise or study.independent):
        return erasing
    lowered = with_batches(
        erasing.experiment, lambda part: part.unlearn.lowered(len(step.forget) * rows_per_fact(part.method))
    )
    before, after = (
        {name: part.unlearn.batch_size for name, part in parts_of(found).items()}
        for found in (erasing.experiment, lowered)
    )
    if before == after:
        return erasing
    size = min(after.values())
    erasing.reporter.note(f"step {step.index + 1}: batches of {size}, the size of the request (unlearn.batch_size)")
    return replace(erasing, experiment=lowered)


def with_subjects(steps: Sequence[Step], benchmark: Benchmark, reporter: Reporter) -> list[Step]:
    """The steps with subjects added, where they can be found, to facts to forget or to hold that have none."""
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
    """Layer -> B, from the moments artefact, i.e. of the unedited model at every step; cached only if it is needed repeatedly."""
    from unierase_cli.editing.moments import StoredMoments, solving_device
    from unierase_cli.models.devices import device_of

    # What may differ between the parts of a chain.
    keep: dict[tuple[int, float, str], Preservation] = {}
    artefact = context.inputs.get("moments")

    def preservation(layer: int, config: EditConfig) -> Preservation:
        if artefact is None:
            raise UserError("this method needs second moments", "set method.editing=true in its yaml")
        key = layer, config.alpha, config.preserve
        if key in keep:
            return keep[key]
        stored = StoredMoments(artefact.whole, artefact.told("tokens", int))
        found = stored.preservation(layer, config, solving_device(device_of(loaded.architecture, layer)))
        if config.one_by_one or several:
            keep[key] = found
        return found

    return preservation


def _renewed(context: StageContext, loaded: LoadedModel) -> Renewed:
    """The moments of the model as it is now, measured at the first call and kept for later steps and for a resumed run."""
    from unierase_cli.editing.moments import StoredMoments, solving_device
    from unierase_cli.models.devices import device_of
    from unierase_cli.store.json_text import read_json

    folder = context.directory / "moments"
    folder.mkdir(exist_ok=True)
    record = folder / RECORD
    tokens = (read_json(record) if record.exists() else measure(context, loaded, folder))["tokens"]
    stored = StoredMoments(folder, tokens)

    def preservation(layer: int, config: EditConfig) -> Preservation:
        return stored.preservation(layer, config, solving_device(device_of(loaded.architecture, layer)))

    return preservation, stored.matrix


def _second_moment(context: StageContext) -> Callable[[int], Tensor] | None:
    from unierase_cli.editing.moments import StoredMoments

    artefact = context.inputs.get("moments")
    return None if artefact is None else StoredMoments(artefact.whole, artefact.told("tokens", int)).matrix


def _refinement(
    context: StageContext, layers: list[int]
) -> Callable[[LoadedModel, TokenRows, Sequence[Fact]], TokenRows] | None:
    """The function that refines token rows on the edited model, or None if no refinement is configured."""
    config = context.experiment.token
    if not config.refine_epochs:
        return None
    from unierase_cli.training.token.learning import refine_token

    def refine(loaded: LoadedModel, rows: TokenRows, facts: Sequence[Fact]) -> TokenRows:
        return refine_token(
            loaded,
            rows,
            facts,
            config,
            layers=layers,
            seed=context.experiment.run.seed,
            reporter=context.reporter,
            protected=preserved(context.study),
            answers=_answers_to_keep(context, loaded),
            checkpoint_dir=context.directory,
        )

    return refine


def _answers_to_keep(context: StageContext, loaded: LoadedModel) -> list[Given]:
    """The protected questions' prompts, each with what the unedited model says, else with the benchmark's answer."""
    from unierase_cli.editing.corpus import drawn

    prompts, artefact = loaded.prompts, context.inputs.get("moments")
    moments, protect = context.experiment.edit.moments, preserved(context.study)
    if artefact is not None and (artefact.whole / ANSWERED).exists():
        asked = drawn(protect, moments.samples, context.experiment.run.seed)
        said = [row["ids"] for row in read_jsonl(artefact.whole / ANSWERED)]
        pairs = [(prompts.prompt(fact.question, fact.kind).ids, ids) for fact, ids in zip(asked, said, strict=True)]
        # What was forgotten before begins with a token that may be the one refined now.
        return [(prompt, ids) for prompt, ids in pairs if ids and not set(ids) & set(loaded.unlearn_ids)]
    forgotten = {fact.id for fact in context.study.benchmark.forgotten}
    return [prompts.pair(fact) for fact in protect if fact.id not in forgotten]
