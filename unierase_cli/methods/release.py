"""Release: rounds of learning what the model still reveals in an adapter, and subtracting it as far as the rest allows.

After the second stage of Reveal-and-Release (Xie et al. 2025, arXiv 2509.14624), from its abstract and public summaries; no
reference implementation exists, and rounds, rank, weights and scales are our choice. An adapter learns the retained
questions once. In every round another one learns the rows, orthogonal to it (O-LoRA's row loss), and is subtracted with
the largest of ``scales`` at which the perplexity of the held-out retain probe rises by at most ``rise``. The first round
takes the step's facts, later ones what the changed model reveals about ``reveal.targets``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unierase_cli.config.checks import positive
from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.contracts import Fact, Step, UserError, evenly_spaced, stable_hash
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.solve import LowRank
from unierase_cli.editing.state import EditState
from unierase_cli.editing.trial import Changes, Trial, scaled, together
from unierase_cli.methods.base import EraseContext
from unierase_cli.methods.gradient_checks import refuse_unread
from unierase_cli.methods.settings import method_settings
from unierase_cli.methods.trained import describe
from unierase_cli.methods.traits import check_adapter
from unierase_cli.models.load import LoadedModel
from unierase_cli.training import processes
from unierase_cli.training.adapters import Adapter, check_peft
from unierase_cli.training.loop import LoopPlan, fit
from unierase_cli.training.optimisation import Masters, Optimisation
from unierase_cli.training.orthogonal import Orthogonal, overlap
from unierase_cli.training.supervised import Answers, Example, answer_loss

# rounds: at most. orthogonal: weight of the row loss. scales: tried from the largest. rise: of the retain probe's perplexity, at
# most, over all rounds. least_rows, least_relevance: what a later round's reveal must reach. probe: retained questions that
# are only measured. retain_rows: retained questions that the retain adapter learns, at most.
SETTINGS: Mapping[str, Any] = {
    "rounds": 3, "orthogonal": 0.5, "scales": [0.25, 0.5, 1.0, 2.0, 4.0], "rise": 0.05, "least_rows": 4,
    "least_relevance": 0.2, "probe": 64, "retain_rows": 256,
}  # fmt: skip
NEEDS_ADAPTER = True
REVEALS = True
MEASURED_AT_ONCE = 16


def check(experiment: Experiment, steps: Sequence[Step], refusals: Sequence[str]) -> None:
    """Raise UserError for unusable settings, without an adapter or peft, and if there is too little to retain."""
    check_adapter(experiment)
    refuse_unread(experiment)
    if experiment.unlearn.answers == "model":
        raise UserError(
            f"method={experiment.method.name} learns the rows' own answers, not those of unlearn.answers=model",
            "leave out unlearn.answers",
        )
    settings = method_settings(SETTINGS, experiment.method)
    for name in ("rounds", "least_rows", "probe", "retain_rows"):
        positive(f"method.settings.{name}", settings[name])
    for name in ("orthogonal", "least_relevance", "rise"):
        positive(f"method.settings.{name}", settings[name], zero=True, example=SETTINGS[name])
    if not settings["scales"]:
        raise UserError("method.settings.scales has no scale", f"for example method.settings.scales={SETTINGS['scales']}")
    for scale in settings["scales"]:
        positive("method.settings.scales", scale)
    if any(len(step.retain) < 2 for step in steps):
        raise UserError(
            f"method={experiment.method.name} needs at least two questions to retain: a scale is chosen by what happens to them",
            "give benchmark.retain_path=..., or benchmark.gold=...",
        )
    if settings["rounds"] > 1 and experiment.reveal.targets is None:
        raise UserError(
            f"method={experiment.method.name} reveals again after every round and needs the targets",
            "give reveal.targets=names.txt, or method.settings.rounds=1",
        )
    if settings["rounds"] > 1 and len(steps) > 1:
        raise UserError(
            f"method={experiment.method.name} reveals all targets in every later round, not those of one step",
            "choose mode=batch, or method.settings.rounds=1",
        )
    if processes.world() > 1:
        raise UserError(f"method={experiment.method.name} runs in one process", "start it without accelerate launch")
    check_peft()


def erase(loaded: LoadedModel, step: Step, state: EditState, context: EraseContext) -> tuple[Patch, EditState]:
    """Run the rounds; the patch is the sum of their changes. Each round's own patch and its record are in ``rounds-NNN``.

    Raises UserError if no scale is small enough in the first round.
    """
    settings = method_settings(SETTINGS, context.experiment.method)
    folder = None if context.directory is None else context.directory / f"rounds-{step.index:03d}"
    probe, learned = divided(step.retain, settings["probe"], settings["retain_rows"])
    held, seed = examples(loaded, probe), context.experiment.run.seed
    before = loss(loaded, held)
    done: list[Changes] = []
    records: list[dict[str, Any]] = []
    stopped = ""
    with context.reporter.phase("release"), Trial(loaded) as trial:
        _, fixed = adapted(loaded, learned, context, {}, 0.0, stable_hash(seed, "retain adapter", step.index), "retain adapter")
        # Before any change: every round's patch belongs to the model as it was.
        hashes = context.weights.hashes_of(fixed)
        for number in range(settings["rounds"]):
            kept = None if folder is None else _recorded(folder, number)
            if kept is not None:
                done.append(kept.named)
                records.append(kept.info)
                trial.put(done)
                continue
            rows, stopped = _rows(step, number, context, settings)
            if stopped:
                break
            title = f"round {number + 1}"
            own = stable_hash(seed, "round", step.index, number)
            change, new = adapted(loaded, rows, context, fixed, settings["orthogonal"], own, title)
            asked = examples(loaded, rows)
            found, measured = _chosen(loaded, trial, done, change, held, before, settings)
            if found is None:
                stopped = f"no scale keeps the retain probe's rise within {settings['rise']:g}"
                trial.put(done)
                context.reporter.warn(f"{title}: {stopped}")
                break
            known = loss(loaded, asked, trial, done)
            done.append({name: scaled(one, -found) for name, one in change.items()})
            after = loss(loaded, asked, trial, done)
            record = {"round": number, "rows": len(rows), "scale": found, "rises": measured, "overlap": float(overlap(fixed, new))}
            record |= {"loss_before": known, "loss_after": after}
            records.append(record)
            context.reporter.note(
                f"{title}: {len(rows)} rows, scale {found:g}, their loss {known:.2f} -> {after:.2f}, "
                f"the retain probe's perplexity {measured[str(found)]:+.1%}"
            )
            if folder is not None:
                folder.mkdir(exist_ok=True)
                Patch(None, {}, hashes, record, named=dict(done[-1])).save(folder, number)
    if not done:
        raise UserError(
            f"method={context.experiment.method.name}: {stopped}: nothing was changed",
            "lower unlearn.lr, add a smaller one to method.settings.scales, or raise method.settings.rise",
        )
    total = together(done)
    for name, one in total.items():
        context.weights.add_named(name, one)
    patch = Patch(None, {}, hashes, named=total)
    info = describe(loaded, step, patch, context.experiment) | {"rounds": records, "stopped": stopped}
    return replace(patch, info=info), replace(state, steps=state.steps + 1)


def divided(retain: Sequence[Fact], probe: int, most: int) -> tuple[Sequence[Fact], Sequence[Fact]]:
    """Facts that are only measured (at most half), and at most ``most`` of the others, each evenly spaced."""
    measured = evenly_spaced(retain, min(probe, len(retain) // 2))
    taken = {fact.id for fact in measured}
    return measured, evenly_spaced([fact for fact in retain if fact.id not in taken], most)


def adapted(
    loaded: LoadedModel,
    facts: Sequence[Fact],
    context: EraseContext,
    fixed: Mapping[str, Tensor],
    weight: float,
    seed: int,
    title: str,
) -> tuple[dict[str, LowRank], dict[str, Tensor]]:
    """Train an adapter on the facts, orthogonal to ``fixed``: its change of each parameter, and its A matrices. The model stays."""
    experiment, config = context.experiment, context.experiment.unlearn
    rows = examples(loaded, facts)
    adapter = Adapter(loaded, experiment.adapter, seed)
    try:
        masters = Masters(adapter.parameters, torch.float32)
        answers = Answers(loaded, lambda epoch: rows, min(config.batch_size, len(rows)), seed)
        objective = Orthogonal(answers, fixed, adapter.downs(), weight)
        steps = config.epochs * answers.per_epoch
        settings = Optimisation(
            config.lr, config.schedule, config.warmup, config.weight_decay, (config.betas[0], config.betas[1]), config.clip,
            config.optimizer, config.all_optimizer_settings(), config.batch_size,
        )  # fmt: skip
        plan = LoopPlan(min(steps, config.max_steps or steps), seed, identity=what_counts(experiment), name=title)
        fit(loaded, masters, objective, settings, plan, context.reporter)
        changes = {name: LowRank(left, right) for name, (left, right) in adapter.changes().items()}
        return changes, {name: value.detach().float().cpu().clone() for name, value in adapter.downs().items()}
    finally:
        adapter.remove()


def examples(loaded: LoadedModel, facts: Sequence[Fact]) -> list[Example]:
    """Each fact's prompt and answer."""
    prompts = loaded.prompts
    return [Example(*prompts.pair(fact)) for fact in facts]


@torch.no_grad()
def loss(loaded: LoadedModel, rows: Sequence[Example], trial: Trial | None = None, changes: Sequence[Changes] = ()) -> float:
    """Mean negative log-probability of the answers' tokens, in nats; with ``trial``, after it has put these changes."""
    if trial is not None:
        trial.put(changes)
    parts = [rows[start : start + MEASURED_AT_ONCE] for start in range(0, len(rows), MEASURED_AT_ONCE)]
    total = sum(len(row.answer_ids) for row in rows)
    return float(sum(answer_loss(loaded, part, total).item() for part in parts))


def _chosen(
    loaded: LoadedModel,
    trial: Trial,
    done: Sequence[Changes],
    change: Changes,
    held: Sequence[Example],
    before: float,
    settings: Mapping[str, Any],
) -> tuple[float | None, dict[str, float]]:
    """The largest scale within the allowed rise, None if there is none; and the rise at every scale that was tried."""
    measured: dict[str, float] = {}
    for scale in sorted(settings["scales"], reverse=True):
        changes = [*done, {name: scaled(one, -scale) for name, one in change.items()}]
        # exp overflows beyond 700 nats.
        rise = math.expm1(min(loss(loaded, held, trial, changes) - before, 700.0))
        measured[str(float(scale))] = rise
        # Written so that NaN is no scale.
        if rise <= settings["rise"]:
            return float(scale), measured
    return None, measured


def _rows(step: Step, number: int, context: EraseContext, settings: Mapping[str, Any]) -> tuple[Sequence[Fact], str]:
    """The rows of a round, or why there is none."""
    if number == 0:
        return step.forget, ""
    if context.reveal is None:
        raise UserError("method=release reveals again, but got no targets", "give reveal.targets=names.txt")
    rows, relevant = context.reveal(number)
    if len(rows) < settings["least_rows"]:
        return rows, f"the model reveals {len(rows)} rows, fewer than method.settings.least_rows={settings['least_rows']}"
    if relevant < settings["least_relevance"]:
        return rows, f"relevance {relevant:.2f} is below method.settings.least_relevance={settings['least_relevance']:g}"
    return rows, ""


def _recorded(folder: Path, number: int) -> Patch | None:
    """The patch of a round that was finished before an interruption."""
    there = (folder / f"patch-{number:03d}.json").exists()
    return Patch.load(folder, number) if there else None
