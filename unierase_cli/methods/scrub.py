"""Scrub: pushes the true answers to forget down to what the model gives to answers that it never learned.

Each round is a bounded ascent in turns with steps on retain facts, then a repair on retain facts alone. Depth is measured
after the repair, since an ascent that damages the whole model hides facts that a repair brings back. Facts beside those
that are trained on are watched: the ascent stops when they suffer, and a round whose repair cannot mend them is undone,
back to the last repaired round. There is no reference implementation; the recipe is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.config.checks import fraction, number, positive
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import TermConfig
from unierase_cli.contracts import Step, UserError, stable_hash
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.state import EditState
from unierase_cli.methods import gradient_checks
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient_rows import Rows
from unierase_cli.methods.gradient_terms import Terms, bind_terms, kinds_of, reference_needs
from unierase_cli.methods.own_answers import own_answers
from unierase_cli.methods.rounds import (
    Depth,
    Kept,
    check_retained,
    copied,
    kept_facts,
    objective,
    restore,
    train,
    unchanged,
)
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.terms.base import FORGET, RETAIN
from unierase_cli.methods.trained import Trained, describe
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.loop import Objective
from unierase_cli.training.unlearning.plan import forget_batches
from unierase_cli.training.unlearning.relearned import Relearned
from unierase_cli.training.unlearning.turns import InTurns, Together

# margin: NLL to reach, nats per answer token; null: that of answers the model never learned, which are the wrong answers of
# facts to retain or, without these, their answers with the words of others. hold: share of it that must be left after the
# repair; rounds: how often to scrub and repair, at most. steps: of ascent in a round, at most; look_every: steps between two
# looks. retain_rows: per forget row of a step; retain_steps: after each ascent step; near: share of the retain rows that is
# drawn from the tenth nearest to what is forgotten. rate, repair_rate: shares of unlearn.lr; the ascent's doubles after one
# that ran out of steps and halves after one that hit the limit. limit: rise of the watched facts' NLL that ends an ascent;
# keep: rise that may be left after the repair, else the round is undone. relearn_steps: half of the ascent's gradient is taken
# at weights that relearned other facts to forget for so many steps of relearn_rate (a share of unlearn.lr); 0: none.
SETTINGS: Mapping[str, Any] = {
    "margin": None, "hold": 0.8, "rounds": 3, "steps": 80, "look_every": 5, "retain_rows": 3, "retain_steps": 1, "near": 0.5,
    "repair_steps": 40, "rate": 0.25, "repair_rate": 0.5, "limit": 0.5, "keep": 0.05, "relearn_steps": 0, "relearn_rate": 0.25,
}  # fmt: skip
# Factor of the rate after an ascent, by what ended it.
FASTER = {"margin": 1.0, "limit": 0.5, "steps": 2.0}
WHOLE, RATES, SHARES = ("rounds", "steps", "look_every"), ("rate", "repair_rate", "limit", "keep", "relearn_rate"), ("hold", "near")


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """The checks of every gradient method, and of the settings above; raises UserError."""
    settings = method_settings(SETTINGS, experiment.method)
    for key in (*WHOLE, *RATES):
        positive(f"method.settings.{key}", settings[key])
    for key in ("retain_rows", "retain_steps", "repair_steps", "relearn_steps"):
        positive(f"method.settings.{key}", settings[key], zero=True)
    for key in SHARES:
        fraction(f"method.settings.{key}", settings[key])
    if settings["margin"] is not None:
        number("method.settings.margin", settings["margin"])
        positive("method.settings.margin", settings["margin"])
    if settings["relearn_steps"] and processes.world() > 1:
        raise UserError(
            "method.settings.relearn_steps moves the weights by the whole gradient, which no process has alone",
            "start it without a launcher",
        )
    check_retained(experiment, steps)
    _terms(experiment, 1.0)
    gradient_checks.refuse_unread(experiment)
    gradient_checks.check(experiment, steps, refusals)


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Scrub and repair in rounds until the depth after the repair holds.

    If the model does not know the facts, or if every round damages what is watched, the patch is empty; the only step of a plan
    raises UserError instead.
    """
    experiment = context.experiment
    settings = method_settings(SETTINGS, experiment.method)
    kept = kept_facts(step, context)
    source = Rows(loaded, replace(step, retain=kept.partners), context, {})
    source.said = own_answers(loaded, context, [*step.forget, *kept.partners, *kept.watched], step.index)
    depth = Depth(loaded, source, kept)
    margin = settings["margin"] or depth.margin()
    before = depth()
    known = f"the facts to forget have {before['forget_nll']:.2f} nats per answer token, the margin is {margin:.2f}"
    context.reporter.note(f"scrub: {known}; {len(kept.watched)} watched facts have {before['watched_nll']:.3f}")
    if before["forget_nll"] >= settings["hold"] * margin:
        done = UserError(f"the scrub has nothing to do: {known}", "leave it out, or raise method.settings.margin")
        return unchanged(step, state, context, done, {"margin": margin, "before": before})
    rounds: list[dict[str, Any]] = []
    losses: list[dict[str, float]] = []
    with context.reporter.phase("scrub"), Trained(loaded, context) as trained:
        rate, good, complete = settings["rate"], copied(trained), 0
        for number in range(settings["rounds"]):
            now = {**settings, "rate": rate, "last": number == settings["rounds"] - 1}
            found = _round(loaded, step, context, trained, source, kept, depth, margin, now, number, before)
            rate *= FASTER[found["ended"]]
            losses += found.pop("losses")
            rounds.append(found)
            if not found["complete"]:
                continue
            if found["watched_nll"] > before["watched_nll"] + settings["keep"]:
                # Rounds without a repair since the last complete one go with it.
                restore(trained, good)
                for one in rounds[complete:]:
                    one["undone"] = True
                break
            good, complete = copied(trained), len(rounds)
            if found["forget_nll"] >= settings["hold"] * margin:
                break
        if all(one.get("undone") for one in rounds):
            damaging = UserError(
                f"the scrub takes what should be kept from {before['watched_nll']:.3f} to "
                f"{rounds[-1]['watched_nll']:.3f} nats, above method.settings.keep={settings['keep']:g}: the model stays as it was",
                "lower method.settings.rate, raise method.settings.repair_steps, or allow more with method.settings.keep",
            )
            return unchanged(step, state, context, damaging, {"margin": margin, "before": before, "rounds": rounds})
        patch = trained.patch()
    _tell(context, rounds, margin, settings)
    info = describe(loaded, step, patch, experiment)
    info |= {"margin": margin, "before": before, "rounds": rounds, "losses": losses}
    return replace(patch, info=info), replace(state, steps=state.steps + 1)


def _round(
    loaded: LoadedModel,
    step: Step,
    context: EraseContext,
    trained: Trained,
    source: Rows,
    kept: Kept,
    depth: Depth,
    margin: float,
    settings: Mapping[str, Any],
    number: int,
    before: Mapping[str, float],
) -> dict[str, Any]:
    """One ascent and one repair: the curve of looks, the depth before and after the repair, and every step's losses.

    After an ascent that ran out of steps, the next round goes on without a repair.
    """
    experiment, turns = context.experiment, 1 + settings["retain_steps"]
    batch = min(experiment.unlearn.batch_size, len(step.forget))
    whole = batch * (1 + settings["retain_rows"])
    seed = stable_hash(experiment.run.seed, "scrub", step.index, number)
    terms = _terms(experiment, margin)

    def retain(size: int, steps: int, purpose: str) -> Any:
        plan = kept.batches(settings["near"], size, steps, stable_hash(seed, purpose))
        return objective(loaded, terms, "retain", source, plan, context)

    plan = forget_batches(len(step.forget), batch, settings["steps"], seed)
    up: Objective = objective(loaded, terms, "forget", source, plan, context)
    if settings["relearn_steps"]:
        up = _resisting(up, loaded, step, source, context, trained, settings, stable_hash(seed, "relearned"))
    ascent = [up]
    ascent += (
        [retain(batch * settings["retain_rows"], settings["steps"], "partners")] if settings["retain_rows"] else []
    )
    others = [retain(whole, settings["steps"], f"between {n}") for n in range(settings["retain_steps"])]
    ended = "steps"

    def look() -> tuple[dict[str, float], str | None]:
        nonlocal ended
        found = depth()
        if found["watched_nll"] > before["watched_nll"] + settings["limit"]:
            ended = "limit"
            return found, f"watched facts have {found['watched_nll']:.2f} nats"
        if found["forget_nll"] >= margin:
            ended = "margin"
            return found, f"{found['forget_nll']:.2f} nats are reached"
        return found, None

    name, about = f"{step.index:03d}-{number}", {"round": number}
    went = train(
        trained, InTurns([Together(*ascent), *others]), settings["steps"] * turns, context, rate=settings["rate"],
        schedule="constant", name=f"{name}-scrub", look=look, look_every=settings["look_every"] * turns, about=about,
    )  # fmt: skip
    found: dict[str, Any] = {"steps": went.steps, "looks": went.looks, "stopped": went.stopped, "losses": list(went.parts)}
    found |= {"ended": ended, "rate": settings["rate"], "complete": ended != "steps" or settings["last"]}
    found["before_repair"] = depth()
    if settings["repair_steps"] and found["complete"]:
        back = train(
            trained, retain(whole, settings["repair_steps"], "repair"), settings["repair_steps"], context,
            rate=settings["repair_rate"], schedule="linear", name=f"{name}-repair", about=about,
        )  # fmt: skip
        found["losses"] += back.parts
    found |= depth()
    context.reporter.note(
        f"scrub, round {number + 1}: {went.steps // turns} steps to {found['before_repair']['forget_nll']:.2f} nats (watched "
        f"{found['before_repair']['watched_nll']:.3f}), ended by {ended}; "
        + (f"after the repair {found['forget_nll']:.2f} ({found['watched_nll']:.3f})" if found["complete"] else "going on faster")
    )
    return found


def _resisting(
    up: Objective,
    loaded: LoadedModel,
    step: Step,
    source: Rows,
    context: EraseContext,
    trained: Trained,
    settings: Mapping[str, Any],
    seed: int,
) -> Relearned:
    """The ascent with half of its gradient at weights that relearned other batches of the facts."""
    config, turns = context.experiment, settings["relearn_steps"]
    learning = bind_terms(TermConfig("learn"), TermConfig(), config.run.seed)
    plan = forget_batches(len(step.forget), config.unlearn.batch_size, settings["steps"] * turns, seed)
    attack = objective(loaded, learning, "forget", source, plan, context)
    rate = settings["relearn_rate"] * config.unlearn.lr
    return Relearned(up, attack, trained.masters, steps=turns, rate=rate)


def _terms(experiment: Experiment, margin: float) -> Terms:
    """The method's terms, with the margin for a forget term that has one. Raises UserError for terms that do not fit."""
    forget, retain = experiment.method.forget, experiment.method.retain
    terms = dict(bind_terms(forget, retain, experiment.run.seed))
    inside = any(hasattr(term, "blocks") for term, _ in terms.values())
    if inside or set(terms) != {"forget", "retain"} or kinds_of(terms) != {FORGET, RETAIN} or reference_needs(terms):
        raise UserError(
            "a scrub needs a forget term and a retain term that read the model's own answers alone",
            "leave method.forget.term=bounded method.retain.term=gd",
        )
    term, given = terms["forget"]
    if given.get("margin", 0) is None:
        terms["forget"] = (term, {**given, "margin": margin})
    return terms


def _tell(
    context: EraseContext, rounds: Sequence[Mapping[str, Any]], margin: float, settings: Mapping[str, Any]
) -> None:
    last, undone = rounds[-1], [str(number) for number, one in enumerate(rounds, 1) if one.get("undone")]
    if undone:
        context.reporter.warn(f"scrub: undone, since what should be kept is damaged: round {', '.join(undone)}")
    elif last["forget_nll"] < settings["hold"] * margin:
        context.reporter.warn(
            f"scrub: {last['forget_nll']:.2f} nats are left after {len(rounds)} rounds, of a margin of {margin:.2f}: "
            "relearning may bring facts back; raise method.settings.rounds or method.settings.rate"
        )
