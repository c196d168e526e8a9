"""All gradient methods: a forget term plus a retain term (``method.forget``, ``method.retain``), minimised by training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.config.sections.unlearn import original_reference, reference_from
from unierase_cli.contracts import Fact, Step, stable_hash
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.editing.unedited import unedited
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient_checks import check, check_original
from unierase_cli.methods.gradient_rows import USES_RETAIN, Rows
from unierase_cli.methods.gradient_terms import (
    Terms,
    bind_terms,
    blocks_of,
    bound,
    check_labels,
    kinds_of,
    reference_needs,
    with_blocks,
)
from unierase_cli.methods.own_answers import own_answers
from unierase_cli.methods.terms.base import FORGET
from unierase_cli.methods.trained import Trained, describe
from unierase_cli.models.architecture import find_architecture
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.loop import LoopPlan, Objective, Progress, fit
from unierase_cli.training.optimisation import optimisation
from unierase_cli.training.unlearning.adversary import adversary
from unierase_cli.training.unlearning.objective import TermsObjective
from unierase_cli.training.unlearning.plan import Item, Sizes, make_plan, save_plan, with_rehearsal
from unierase_cli.training.unlearning.reference import References
from unierase_cli.training.unlearning.sharpness import Sharpened
from unierase_cli.training.unlearning.turns import Together

__all__ = ["check", "erase"]


def erase(
    loaded: LoadedModel,
    step: Step,
    state: EditState,
    context: EraseContext,
    *,
    alternates: Mapping[str, Sequence[str]] | None = None,
    scale: float = 1.0,
    plan: list[list[Item]] | None = None,
    original: bool = False,
    start: Callable[[Trained], None] | None = None,
) -> tuple[Patch, EditState]:
    """Train the model, or adapters on it, on the step's facts, with ``unlearn.rehearsal`` on earlier ones too.

    ``alternates``: fact id -> alternative answers (AltPO). ``scale``: factor of the learned change, beside ``unlearn.scale``
    (below 0: it is subtracted, as a task vector). ``plan``: the batches, if they are not those of ``unlearn``. ``original``: a
    loss compares with the model before all changes so far. ``start``: changes the trained weights before the first step, once
    the reference is stored.

    Raises UserError if a term lacks the rows that it needs, if a batch is larger than the forget set, or if the loss is not
    finite.
    """
    experiment, reporter = context.experiment, context.reporter
    terms = bind_terms(experiment.method.forget, experiment.method.retain, experiment.run.seed)
    terms = with_blocks(terms, loaded.architecture.n_blocks)
    for role, (_, settings) in terms.items():
        if settings.get("warmup_epochs", 0) >= experiment.unlearn.epochs:
            reporter.warn(f"method.{role}.settings.warmup_epochs: the warm-up covers all epochs, so nothing is ever updated")
    rehearsed = step.forgotten_before if experiment.unlearn.rehearsal and plan is None else ()
    source = Rows(loaded, step, context, alternates or {}, rehearsed)
    source.check(kinds_of(terms), experiment.method.name)
    plan = plan or _plan(source.sizes, len(rehearsed), step, experiment)
    if context.directory is not None and processes.rank() == 0:
        save_plan(context.directory / f"plan-{step.index:03d}.jsonl", plan)
    source.said = own_answers(loaded, context, _asked(source, plan, retained=bool(kinds_of(terms) & USES_RETAIN)), step.index)
    before = unedited(context.weights) if original else _reference_weights(step, context)
    with reporter.phase("train"), Trained(loaded, context) as trained:
        progress = _train(loaded, terms, source, plan, context, trained, step.index, before, start)
        if progress.stopped:
            reporter.warn(f"training stopped after {progress.steps} of {len(plan)} steps: {progress.stopped}")
        patch = trained.patch(scale * experiment.unlearn.scale)
    info = describe(loaded, step, patch, experiment) | {"steps": progress.steps, "planned_steps": len(plan)}
    info |= {"losses": progress.parts, "looks": progress.looks, "stopped": progress.stopped}
    if rehearsed:
        info["rehearsed"] = len({item.forget for batch in plan for item in batch if item.forget >= len(step.forget)})
    return replace(patch, info=info), replace(state, steps=state.steps + 1)


def _plan(sizes: Sizes, rehearsed: int, step: Step, experiment: Experiment) -> list[list[Item]]:
    seed = _plan_seed(experiment.run.seed, step)
    plan = make_plan(sizes, experiment.unlearn, seed)
    return with_rehearsal(plan, sizes, rehearsed, experiment.unlearn, stable_hash(seed, "rehearsal"))


def _asked(source: Rows, plan: list[list[Item]], *, retained: bool) -> list[Fact]:
    """The facts of a plan, to forget and, if ``retained``, to retain."""
    items = [item for batch in plan for item in batch]
    facts = [source.forget[i] for i in sorted({item.forget for item in items})]
    return facts + ([source.retain[i] for i in sorted({item.retain for item in items})] if retained else [])


def _plan_seed(seed: int, step: Step) -> int:
    """A seed of its own for each later request of a sequence; otherwise all would retain the same few rows."""
    return stable_hash(seed, "step", step.index) if step.forgotten_before else seed


def _reference_weights(step: Step, context: EraseContext) -> Callable[[], AbstractContextManager[object]] | None:
    """Context that restores the original model for the reference, if a step after others compares with it."""
    mode, config = context.experiment.mode, context.experiment.unlearn
    if not step.forgotten_before or not original_reference(mode, config):
        return None
    check_original(config)
    return unedited(context.weights)


def _train(
    loaded: LoadedModel,
    terms: Terms,
    source: Rows,
    plan: list[list[Item]],
    context: EraseContext,
    trained: Trained,
    index: int,
    before: Callable[[], AbstractContextManager[object]] | None,
    start: Callable[[Trained], None] | None,
) -> Progress:
    experiment, config = context.experiment, context.experiment.unlearn
    losses = [bound(role, term, settings) for role, (term, settings) in terms.items()]
    items = [item for batch in plan for item in batch]
    source.prepare(kinds_of(terms), items, context.reporter)
    with nullcontext() if before is None else before():
        references = _references(loaded, terms, source, experiment, trained.adapter, original=before is not None)
        wanted = {kind: [source(kind, item) for item in items] for kind in references.needs}
        references.keep(wanted, config.reference_gib, context.reporter)
    if start is not None:
        start(trained)
    weights = {"forget": experiment.method.forget.weight, "retain": experiment.method.retain.weight}
    per_epoch = max(1, source.sizes.forget * source.sizes.alternates // config.batch_size)

    def minimising(*roles: str) -> TermsObjective:
        chosen = [loss for loss in losses if loss.role in roles]
        return TermsObjective(
            loaded, chosen, weights, plan, source, source.layout, references, config, steps_per_epoch=per_epoch
        )

    directory = None if context.directory is None else context.directory / f"training-{index:03d}"
    if directory is not None:
        directory.mkdir(exist_ok=True)
    loop = LoopPlan(
        len(plan),
        experiment.run.seed,
        checkpoint_every=max(0, config.checkpoint_every or len(plan) // 10 or 1),
        look_every=config.evaluate_every,
        look=None if context.evaluate is None else partial(_look, context.evaluate),
        directory=directory,
        identity=what_counts(experiment),
        name=experiment.method.name,
    )
    with _adversary(loaded, source, context, trained) as strengthened:
        objective: Objective = minimising("forget", "retain")
        if config.sharpness or config.adversary_rank:
            hardened: Objective = minimising("forget")
            if config.sharpness:
                hardened = Sharpened(hardened, trained.masters, config.sharpness)
            objective = Together(strengthened(hardened), *[minimising(role) for role in terms if role != "forget"])
        settings = replace(optimisation(config), batch=max(map(len, plan)))
        return fit(loaded, trained.masters, objective, settings, loop, context.reporter)


def _adversary(
    loaded: LoadedModel, source: Rows, context: EraseContext, trained: Trained
) -> AbstractContextManager[Callable[[Objective], Objective]]:
    """What wraps the forget loss: adapters that recall the step's facts (``unlearn.adversary_rank``), or nothing."""
    config = context.experiment.unlearn
    if not config.adversary_rank:
        return nullcontext(lambda inner: inner)
    batches = source.batches(FORGET, source.forget[: source.sizes.forget], config.micro_batch or config.batch_size)
    return adversary(
        loaded, trained.masters, batches, rank=config.adversary_rank, lr=config.adversary_lr,
        passes=config.adversary_passes, seed=stable_hash(context.experiment.run.seed, "adversary"),
    )  # fmt: skip


def _look(evaluate: Callable[[], dict[str, float]]) -> tuple[dict[str, float], str | None]:
    return evaluate(), None


@contextmanager
def _as_before(loaded: LoadedModel, adapter: Adapter) -> Iterator[None]:
    """Switches off the adapter and dropout."""
    loaded.model.eval()
    with adapter.off():
        yield
    loaded.model.train()


def _references(
    loaded: LoadedModel,
    terms: Terms,
    source: Rows,
    experiment: Experiment,
    adapter: Adapter | None,
    *,
    original: bool = False,
) -> References:
    """The model with its adapter off if there is an adapter, a second model if asked for, else stored outputs.

    ``original``: the model holds the original weights only for now, so its adapter-off outputs will differ later.
    """
    check_labels(terms, experiment.unlearn)
    needs = reference_needs(terms)
    blocks = {layer for term, settings in terms.values() for layer in blocks_of(term, settings)}
    other: LoadedModel | None = None
    frozen: Callable[[], AbstractContextManager[object]] | None = None
    place = reference_from(experiment.unlearn, experiment.adapter, original=original)
    if place == "adapter" and adapter is not None:
        other, frozen = loaded, partial(_as_before, loaded, adapter)
    elif place == "second_model" and {what for found in needs.values() for what in found} - {"row_sums"}:
        model = copy.deepcopy(loaded.model).requires_grad_(False).eval()
        other, frozen = replace(loaded, model=model, architecture=find_architecture(model)), nullcontext
    return References(loaded, needs, source.layout, tuple(sorted(blocks)), other, frozen)
