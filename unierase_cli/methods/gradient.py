"""Every gradient method: a forget term and a retain term (``method.forget``, ``method.retain``), minimised by the training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from unierase_cli.config.sections.model import TermConfig
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import Fact, Step, UserError
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.terms.base import (
    FORGET,
    FORGET_ALTERNATE,
    FORGET_REFUSAL,
    RETAIN,
    RETAIN_REFUSAL,
    Term,
    complete_settings,
    load_term,
    reference_of,
    term_loss,
    unit_weights,
)
from unierase_cli.methods.trained import Trained, describe
from unierase_cli.models.load import LoadedModel, wrap_model
from unierase_cli.training import processes
from unierase_cli.training.adapters import Adapter
from unierase_cli.training.loop import LoopPlan, Progress, fit
from unierase_cli.training.objective import BoundTerm, TermsObjective
from unierase_cli.training.optimisation import Optimisation
from unierase_cli.training.plan import Item, Sizes, make_plan, save_plan
from unierase_cli.training.reference import References
from unierase_cli.training.rows import Layout, Row, make_row

Terms = Mapping[str, tuple[Term, dict[str, Any]]]
USES_RETAIN = {RETAIN, RETAIN_REFUSAL}
USES_REFUSALS = {FORGET_REFUSAL, RETAIN_REFUSAL}


def erase(
    loaded: LoadedModel,
    step: Step,
    state: EditState,
    context: EraseContext,
    *,
    alternates: Mapping[str, Sequence[str]] | None = None,
    negate: float | None = None,
) -> tuple[Patch, EditState]:
    """Train the model (or adapters on it) on the step's facts. ``alternates``: fact id -> other answers (AltPO). ``negate``: take
    that many times what was learned away from the model instead of keeping it (task vector).

    Raises UserError when a term lacks the rows it needs, on a batch larger than the forget set, and on a loss that is not a
    number.
    """
    experiment, reporter = context.experiment, context.reporter
    terms = bind_terms(experiment.method.forget, experiment.method.retain, experiment.run.seed)
    _check_blocks(loaded, terms)
    source = Rows(loaded, step, context.refusals, alternates or {}, experiment.unlearn, experiment.run.seed)
    source.check({kind for term, _ in terms.values() for kind in term.ROWS}, experiment.method.name)
    plan = make_plan(source.sizes, experiment.unlearn, experiment.run.seed)
    if context.directory is not None and processes.rank() == 0:
        save_plan(context.directory / f"plan-{step.index:03d}.jsonl", plan)
    with reporter.phase("train"), Trained(loaded, context) as trained:
        progress = _train(loaded, terms, source, plan, context, trained, step.index)
        if progress.stopped:
            reporter.warn(f"training stopped after {progress.steps} of {len(plan)} steps: {progress.stopped}")
        patch = trained.patch(negate)
    info = describe(loaded, step, patch, experiment) | {"steps": progress.steps, "planned_steps": len(plan)}
    info |= {"losses": progress.parts, "looks": progress.looks, "stopped": progress.stopped}
    return replace(patch, info=info), replace(state, steps=state.steps + 1)


def bind_terms(forget: TermConfig, retain: TermConfig, seed: int) -> Terms:
    """Role -> (term, its settings). Raises UserError for an unknown term or setting, and when there is no term at all.

    ``seed``: of the run, for a term that draws something and is given no seed of its own.
    """
    found = {}
    for role, config in (("forget", forget), ("retain", retain)):
        if config.term is not None:
            term = load_term(config.term)
            own = {"seed": seed} if "seed" in term.SETTINGS else {}
            name = f"method.{role}.settings of term {config.term}"
            found[role] = (term, complete_settings(term, {**own, **config.settings}, name))
    if not found:
        raise UserError("this method has no loss term", "set method.forget.term=... and method.retain.term=...")
    return found


def _check_blocks(loaded: LoadedModel, terms: Terms) -> None:
    count = loaded.architecture.n_blocks
    for role, (term, settings) in terms.items():
        for block in term.blocks(settings) if hasattr(term, "blocks") else ():
            if block >= count:
                raise UserError(
                    f"method.{role}.settings.layer={block}: the model has blocks 0 to {count - 1}",
                    f"choose for example method.{role}.settings.layer={count // 4}",
                )


class Rows:
    """The sequences that a plan's items stand for, each encoded once."""

    def __init__(
        self,
        loaded: LoadedModel,
        step: Step,
        refusals: Sequence[str],
        alternates: Mapping[str, Sequence[str]],
        config: UnlearnConfig,
        seed: int,
    ) -> None:
        self.prompts, self.forget, self.retain = loaded.prompts, step.forget, step.retain
        self.refusals, self.alternates, self.config, self.seed = refusals, alternates, config, seed
        self._made: dict[tuple[str, str], Row] = {}
        fewest = min((len(found) for found in alternates.values()), default=1)
        self.sizes = Sizes(len(step.forget), len(step.retain), len(refusals), max(1, fewest))

    def check(self, kinds: set[str], method: str) -> None:
        """Raise UserError when the benchmark lacks what these kinds of rows are made of."""
        if kinds & USES_RETAIN and not self.retain:
            hint = "give benchmark.retain_path=..., or leave the retain term out: method.retain.term=null"
            raise UserError(f"{method} needs questions to retain, and the benchmark protects none", hint)
        if kinds & USES_REFUSALS and not self.refusals:
            raise UserError(f"{method} needs refusals", "give token.targets=FILE")
        if FORGET_ALTERNATE in kinds and not self.alternates:
            raise UserError("this loss needs alternative answers", "choose method=altpo, which makes them")

    def __call__(self, kind: str, item: Item) -> Row:
        fact = self.retain[item.retain] if kind in USES_RETAIN else self.forget[item.forget]
        return self._row(fact, self._answer(kind, fact, item))

    def layout(self, kind: str) -> Layout:
        """How rows of a kind are laid out: labels on every position are for forget rows only."""
        pad_to = self.config.max_length if self.config.layout == "closer_look" else 0
        everywhere = self.config.forget_labels == "all" and kind == FORGET
        return Layout(pad_to, hide_end=self.config.layout != "own", label_all=everywhere)

    def _answer(self, kind: str, fact: Fact, item: Item) -> str:
        if kind in USES_REFUSALS:
            return self.refusals[item.refusal]
        if kind == FORGET_ALTERNATE:
            return self.alternates[fact.id][item.alternate]
        return fact.answer

    def _row(self, fact: Fact, answer: str) -> Row:
        found = self._made.get((fact.id, answer))
        if found is None:
            ids = self.prompts.prompt(fact.question).ids
            found = make_row(ids, self.prompts.answer_ids(answer), self.config.max_length)
            self._made[fact.id, answer] = found
        return found


def _train(
    loaded: LoadedModel,
    terms: Terms,
    source: Rows,
    plan: list[list[Item]],
    context: EraseContext,
    trained: Trained,
    index: int,
) -> Progress:
    experiment, config = context.experiment, context.experiment.unlearn
    bound = [_bind(role, term, settings) for role, (term, settings) in terms.items()]
    references = _references(loaded, terms, source, config, trained.adapter)
    items = [item for batch in plan for item in batch]
    wanted = {kind: [source(kind, item) for item in items] for kind in references.needs}
    references.keep(wanted, config.reference_gib, context.reporter)
    weights = {"forget": experiment.method.forget.weight, "retain": experiment.method.retain.weight}
    per_epoch = max(1, source.sizes.forget * source.sizes.alternates // config.batch_size)
    objective = TermsObjective(
        loaded, bound, weights, plan, source, source.layout, references, config, steps_per_epoch=per_epoch
    )
    directory = None if context.directory is None else context.directory / f"training-{index:03d}"
    if directory is not None:
        directory.mkdir(exist_ok=True)
    loop = LoopPlan(
        len(plan),
        experiment.run.seed,
        checkpoint_every=config.checkpoint_every or max(1, len(plan) // 10),
        look_every=config.evaluate_every,
        look=None if context.evaluate is None else partial(_look, context.evaluate),
        directory=directory,
        identity={**asdict(config), "method": asdict(experiment.method), "adapter": asdict(experiment.adapter)},
        name=experiment.method.name,
        tensorboard=config.tensorboard,
    )
    betas = (config.betas[0], config.betas[1])
    settings = Optimisation(
        config.lr, config.schedule, config.warmup, config.weight_decay, betas, config.clip, config.optimizer, config.rho,
        config.batch_size,
    )  # fmt: skip
    return fit(loaded, trained.masters, objective, settings, loop, context.reporter)


def _look(evaluate: Callable[[], dict[str, float]]) -> tuple[dict[str, float], str | None]:
    return evaluate(), None


def _bind(role: str, term: Term, settings: dict[str, Any]) -> BoundTerm:
    blocks = getattr(term, "blocks", None)
    after = getattr(term, "after_step", None)
    return BoundTerm(
        role,
        term.ROWS,
        lambda batch: unit_weights(term, batch, settings),
        lambda views, total: term_loss(term, views, settings, total),
        tuple(blocks(settings)) if blocks else (),
        None if after is None else lambda state, parts, epoch: after(state, parts, epoch, settings),
    )


def _references(
    loaded: LoadedModel,
    terms: Terms,
    source: Rows,
    config: UnlearnConfig,
    adapter: Adapter | None,
) -> References:
    """The adapter switched off where there is one; a second model only if it is asked for; else what is kept."""
    needs: dict[str, set[str]] = {}
    for term, settings in terms.values():
        for kind, what in reference_of(term, settings).items():
            needs.setdefault(kind, set()).add(what)
    everything = {what for found in needs.values() for what in found}
    blocks = [layer for term, s in terms.values() if hasattr(term, "blocks") for layer in term.blocks(s)]
    if config.forget_labels == "all" and config.layout != "closer_look" and needs.get(FORGET):
        raise UserError(
            "unlearn.forget_labels=all labels the padding, and rows padded anew each step have no fixed reference",
            "add unlearn.layout=closer_look unlearn.max_length=200",
        )
    other: LoadedModel | None = None
    frozen: Callable[[], AbstractContextManager[object]] | None = None
    if adapter is not None and config.reference != "stored":
        other, frozen = loaded, adapter.off
    elif config.reference == "second_model" and everything - {"row_sums"}:
        model = copy.deepcopy(loaded.model).requires_grad_(False).eval()
        other, frozen = wrap_model(model, loaded.tokenizer), nullcontext
    return References(loaded, needs, source.layout, tuple(sorted(set(blocks))), other, frozen)

