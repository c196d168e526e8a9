"""What scrub and repair are made of: rows to train on and to watch, objectives, and runs of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.contracts import Fact, Step, UserError, evenly_spaced, stable_hash
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.gradient_terms import Terms, bind_terms, bound, kinds_of
from unierase_cli.methods.terms.base import FORGET, RETAIN, RETAIN_REFUSAL
from unierase_cli.methods.trained import Trained
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.loop import LoopPlan, Objective, Progress, fit
from unierase_cli.training.optimisation import optimisation
from unierase_cli.training.unlearning.depth import mean_nll, never_learned
from unierase_cli.training.unlearning.objective import TermsObjective
from unierase_cli.training.unlearning.plan import Item, retain_batches
from unierase_cli.training.unlearning.reference import References

# Retain facts that are only looked at, at most a fifth of all; share of the retain facts that counts as near.
WATCHED, NEAR = 64, 0.1


@dataclass(frozen=True)
class Kept:
    """Retain facts: ``partners`` are trained on, the first ``near`` of them nearest to what is forgotten; ``watched`` are
    only looked at, so that damage to facts that no loss sees is noticed.
    """

    partners: tuple[Fact, ...]
    near: int
    watched: tuple[Fact, ...]

    def batches(self, share: float, size: int, steps: int, seed: int) -> list[list[Item]]:
        """Batches of partners, a ``share`` of each from the nearest."""
        return retain_batches(range(self.near), range(len(self.partners)), share, size, steps, seed)


def check_retained(experiment: Experiment, steps: Sequence[Step]) -> None:
    """Raise UserError if a step has too few questions to retain to train on some and watch others, or if the retain term reads
    facts to forget.
    """
    terms = bind_terms(TermConfig(), experiment.method.retain, experiment.run.seed) if experiment.method.retain.term else {}
    if kinds_of(terms) - {RETAIN, RETAIN_REFUSAL}:
        raise UserError(
            f"{experiment.method.name} trains on questions to retain alone, and its retain term reads questions to forget",
            "choose a term that reads questions to retain alone: method.retain.term=gd",
        )
    if fewest := [len(step.retain) for step in steps if len(step.retain) < 2]:
        raise UserError(
            f"{experiment.method.name} needs at least two questions to retain, and the benchmark protects {fewest[0]}",
            "give benchmark.retain_path=...",
        )


def check_retained_alone(experiment: Experiment, steps: Sequence[Step]) -> None:
    """As ``check_retained``, for a training on retain facts alone; refuses a forget term. Raises UserError."""
    if experiment.method.forget.term:
        raise UserError(
            f"{experiment.method.name} trains on questions to retain alone, and method.forget.term={experiment.method.forget.term} "
            "reads questions to forget",
            "leave it out, or give it to another part of a chain",
        )
    check_retained(experiment, steps)


def on_retained(
    step: Step, context: EraseContext, settings: Mapping[str, Any], name: str
) -> tuple[Step, EraseContext, list[list[Item]], int]:
    """A training on retain facts alone: its step, its context with its own rate, its batches, and its seed.

    ``settings``: ``steps``, ``rows`` per forget row of a usual batch, ``near`` (share of the rows from the nearest facts), ``rate``
    (share of ``unlearn.lr``, falling to 0).
    """
    experiment, kept = context.experiment, kept_facts(step, context)
    size = settings["rows"] * min(experiment.unlearn.batch_size, len(step.forget))
    seed = stable_hash(experiment.run.seed, name, step.index)
    plan = kept.batches(settings["near"], size, settings["steps"], seed)
    unlearn = replace(experiment.unlearn, lr=settings["rate"] * experiment.unlearn.lr, schedule="linear", warmup=0.0)
    context = replace(context, experiment=replace(experiment, unlearn=unlearn))
    return replace(step, retain=kept.partners), context, plan, seed


def kept_facts(step: Step, context: EraseContext) -> Kept:
    """The step's retain facts, nearest first, divided into partners and watched ones. Raises UserError if there are too few."""
    check_retained(context.experiment, [step])
    ordered = step.retain if context.nearest is None else context.nearest(step.forget, step.retain)
    watched = evenly_spaced(ordered, max(1, min(WATCHED, len(ordered) // 5)))
    left_out = {fact.id for fact in watched}
    partners = tuple(fact for fact in ordered if fact.id not in left_out)
    return Kept(partners, max(1, round(NEAR * len(partners))), watched)


class Depth:
    """Measures how deep the facts to forget are buried, and what it costs: NLL per answer token of both kinds of facts."""

    def __init__(self, loaded: LoadedModel, source: Rows, kept: Kept) -> None:
        self.loaded = loaded
        self._forget = [source.of_fact(fact) for fact in source.forget]
        self._watched = [source.of_fact(fact) for fact in kept.watched]
        self._layout = source.layout(RETAIN)
        self._kept, self._said = kept, source.said

    def __call__(self) -> dict[str, float]:
        """``forget_nll`` and ``watched_nll`` of the current weights."""
        forget, watched = (mean_nll(self.loaded, rows, self._layout) for rows in (self._forget, self._watched))
        return {"forget_nll": forget, "watched_nll": watched}

    def margin(self) -> float:
        """NLL of answers that the model never learned, to questions to retain, in the style that depth is measured in."""
        facts = [*self._kept.watched, *self._kept.partners[:WATCHED]]
        return mean_nll(self.loaded, never_learned(self.loaded, facts, self._said), self._layout)


@torch.no_grad()
def copied(trained: Trained) -> list[Tensor]:
    """The trained weights as they are now."""
    return [tensor.detach().clone() for tensor in trained.masters.tensors]


@torch.no_grad()
def restore(trained: Trained, weights: Sequence[Tensor]) -> None:
    """Put back weights that ``copied`` returned."""
    for tensor, value in zip(trained.masters.tensors, weights, strict=True):
        tensor.copy_(value)
    trained.masters.publish()


def unchanged(
    step: Step, state: EditState, context: EraseContext, reason: UserError, about: dict[str, Any]
) -> tuple[Patch, EditState]:
    """An empty patch, with a warning, for a step among several; raises ``reason`` for the only one."""
    if not context.several:
        raise reason
    context.reporter.warn(f"step {step.index + 1} changes nothing: {reason.message}")
    info = {"step": step.index, "facts": [fact.id for fact in step.forget], "changed_share": 0.0, **about}
    return Patch(None, {}, {}, info), replace(state, steps=state.steps + 1)


def objective(
    loaded: LoadedModel, terms: Terms, role: str, source: Rows, plan: Sequence[Sequence[Item]], context: EraseContext
) -> TermsObjective:
    """The objective of one role's term over a plan of batches."""
    term, settings = terms[role]
    weight = getattr(context.experiment.method, role).weight
    references = References(loaded, {}, source.layout, ())
    source.prepare(
        {FORGET if role == "forget" else RETAIN}, [item for batch in plan for item in batch], context.reporter
    )
    return TermsObjective(
        loaded, [bound(role, term, settings)], {role: weight}, plan, source, source.layout, references,
        context.experiment.unlearn, steps_per_epoch=max(1, len(plan)),
    )  # fmt: skip


def train(
    trained: Trained,
    wanted: Objective,
    steps: int,
    context: EraseContext,
    *,
    rate: float,
    schedule: str,
    name: str,
    look: Callable[[], tuple[dict[str, float], str | None]] | None = None,
    look_every: int = 0,
    about: dict[str, Any] | None = None,
) -> Progress:
    """Run the training loop for ``steps`` at ``rate`` times ``unlearn.lr``; its folder is ``training-<name>``."""
    experiment = context.experiment
    config = experiment.unlearn
    directory = None if context.directory is None else context.directory / f"training-{name}"
    if directory is not None:
        directory.mkdir(exist_ok=True)
    plan = LoopPlan(
        steps,
        stable_hash(experiment.run.seed, name),
        checkpoint_every=max(0, config.checkpoint_every or steps // 4 or 1),
        look_every=look_every,
        look=look,
        directory=directory,
        identity={**what_counts(experiment), **(about or {})},
        name=name,
    )
    settings = replace(optimisation(config), lr=rate * config.lr, schedule=schedule, warmup=0.0)
    return fit(trained.loaded, trained.masters, wanted, settings, plan, context.reporter)
