"""Stage ``observe``: asks a model state (``base``, ``edited``, or ``edited`` up to a step) every question and records the answers.

Metrics are computed only from these files, so a new metric needs no model. An interrupted pass resumes at its next
batch. Several processes share the batches of the same plan as a single process, so the files are bit-identical.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.evaluation import TOKENLESS_VARIANTS
from unierase_cli.contracts import Fact, Observation, UserError
from unierase_cli.pipeline.asked_rows import scored_splits, step_splits
from unierase_cli.pipeline.model_states import (
    has_token,
    load_base,
    load_edited,
    model_fingerprints,
    model_settings,
    protocol_settings,
    state_needs,
)
from unierase_cli.pipeline.observation_files import PLAN, Pass, Plan, batches_done, read_pass
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.cut_short import share_cut, told_of_state
from unierase_cli.stages.shared.unedited import same_answers, taken_over
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.jsonl import append_jsonl
from unierase_cli.training import processes

if TYPE_CHECKING:
    from unierase_cli.inference.observe import Asked
    from unierase_cli.models.load import LoadedModel

NAME = "observe"
VERSION = 3
FORGET = "forget"
# Option for a step of a sequence: the model after that step, asked plainly.
STEP = "step"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and asked, without the batch size, because answers do not depend on it."""
    experiment, evaluation, state = study.experiment, study.experiment.eval, options["state"]
    return {
        "model": model_settings(experiment),
        "protocol": protocol_settings(experiment),
        "splits": evaluation.splits,
        "variants": ["plain"] if STEP in options else variants(experiment, FORGET, has_token(experiment, state)),
        "scored": sorted(evaluation.truth_ratio_splits) if evaluation.truth_ratio else None,
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return state_needs(study.experiment, options["state"]) | same_answers(study, NAME, options)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files and the rows asked, so that changes elsewhere in the benchmark require no new answers."""
    asked = asked_splits(study, options).items()
    rows = {split: [[fact.id, fact.row_hash, fact.long_answer] for fact in facts] for split, facts in asked}
    return {**model_fingerprints(study.experiment), "rows": hash_json(rows)}


def asked_splits(study: Study, options: dict[str, str]) -> dict[str, list[Fact]]:
    """The facts of each split that this stage asks: all scored ones, or those of a step of a sequence."""
    if STEP not in options:
        return scored_splits(study)
    return step_splits(study, int(options[STEP]))


def variants(experiment: Experiment, split: str, has_token: bool) -> list[str]:
    """How a split is asked: plainly, and the forget split also in the honesty variants that apply to the model."""
    extra = experiment.eval.forget_variants if split == FORGET else []
    return ["plain", *(v for v in dict.fromkeys(extra) if v != "plain" and (has_token or v in TOKENLESS_VARIANTS))]


def run(context: StageContext) -> dict[str, Any]:
    """Ask all splits.

    Returns the number of rows, the stop reasons, the share of plain answers cut short, the speed and the first rendered
    prompt.
    """
    experiment, reporter = context.experiment, context.reporter
    if (known := taken_over(context)) is not None:
        return known
    if STEP in context.options:
        loaded = load_edited(experiment, context.inputs, reporter, int(context.options[STEP]))
    else:
        load = load_edited if context.options["state"] == "edited" else load_base
        loaded = load(experiment, context.inputs, reporter)
    asked, plan = make_plan(context, loaded)
    started = time.perf_counter()
    made = _observe(context, loaded, asked, plan)
    if processes.rank():
        return {}
    stops: Counter[str] = Counter()
    plain: list[str] = []
    cut = 0
    for entry in plan.passes:
        observations = read_pass(context.directory, entry)
        stops.update(o.stop for o in observations)
        plain += [o.stop for o in observations if o.variant == "plain"]
        cut += sum(not score.ends for o in observations for scores in o.answers.values() for score in scores)
    if cut:
        reporter.warn(f"{cut} answers were cut to fit and are scored without their ends")
    if warning := told_of_state(plan.state, plain):
        reporter.warn(warning)
    first = next(iter(asked.values()))[0]
    return {
        "state": plan.state,
        "rows": sum(len(entry.facts) for entry in plan.passes),
        "stops": dict(stops),
        "share_cut_short": round(share_cut(plain), 4),
        "answers_cut": cut,
        "rows_per_second": round(made / max(time.perf_counter() - started, 1e-9), 2) if made else None,
        "first_prompt": first.text,
    }


def make_plan(context: StageContext, loaded: LoadedModel) -> tuple[dict[tuple[str, str], list[Asked]], Plan]:
    """Every question with its prompt, and the batches, which are those of an interrupted run if it left a plan."""
    from unierase_cli.inference.observe import ask

    experiment = context.experiment
    asked: dict[tuple[str, str], list[Asked]] = {}
    for split, facts in asked_splits(context.study, context.options).items():
        for variant in variants(experiment, split, bool(loaded.unlearn_ids)):
            rows = ask(loaded, facts, variant, experiment.protocol)
            if rows:
                asked[split, variant] = rows
                if len(rows) < len(facts):
                    left = len(facts) - len(rows)
                    context.reporter.note(f"{split}.{variant}: {left} of {len(facts)} rows can't be asked this way")
            else:
                context.reporter.note(f"{split}.{variant}: no row can be asked this way")
    return asked, processes.of_first(lambda: _stored_plan(context, loaded, asked))


def _stored_plan(context: StageContext, loaded: LoadedModel, asked: dict[tuple[str, str], list[Asked]]) -> Plan:
    """The plan of an interrupted run, or a new one, stored; raises UserError if the stored plan is for other rows."""
    from unierase_cli.inference.observe import plan_batches

    experiment = context.experiment
    names = {key: [row.fact.id for row in rows] for key, rows in asked.items()}
    if (context.directory / PLAN).exists():
        plan = Plan.load(context.directory)
        if {(entry.split, entry.variant): entry.facts for entry in plan.passes} == names:
            return plan
        raise UserError(f"{context.directory / PLAN} was made for other rows", "observe again with --force")
    size, device = experiment.eval.batch_size, loaded.device.type
    passes = [Pass(*key, names[key], plan_batches(rows, size, device)) for key, rows in asked.items()]
    special = sorted({*loaded.tokenizer.all_special_ids, *loaded.unlearn_ids})
    plan = Plan(context.options["state"], special, list(loaded.unlearn_ids), passes, asdict(experiment.protocol))
    plan.save(context.directory)
    return plan


def _observe(context: StageContext, loaded: LoadedModel, asked: dict[tuple[str, str], list[Asked]], plan: Plan) -> int:
    """Ask the remaining questions of every pass and append the answers batch by batch; returns the number of rows asked.

    The processes share the batches of all passes, because a pass may have only one batch. The time until a pass's
    batches arrive counts towards that pass.
    """
    paths = [context.directory / entry.file for entry in plan.passes]
    done = processes.of_first(lambda: [batches_done(p, e.batches) for p, e in zip(paths, plan.passes, strict=True)])
    left = [entry.batches[count:] for entry, count in zip(plan.passes, done, strict=True)]
    jobs = [(entry, batch) for entry, batches in zip(plan.passes, left, strict=True) for batch in batches]
    answers = processes.in_order(_answers(context, loaded, asked, processes.share(jobs)), len(jobs))
    if processes.rank():
        list(answers)
        return 0
    state = context.options["state"] + (f" after step {int(context.options[STEP]) + 1}" if STEP in context.options else "")
    for entry, path, batches in zip(plan.passes, paths, left, strict=True):
        title, rows = f"observe {state} {entry.split} {entry.variant}", sum(map(len, batches))
        if not rows:
            continue
        with context.reporter.phase(title), context.reporter.progress(title, rows) as advance:
            for batch in batches:
                append_jsonl(path, [o.to_json() for o in next(answers)])
                advance(len(batch))
    return sum(len(batch) for _, batch in jobs)


def _answers(
    context: StageContext,
    loaded: LoadedModel,
    asked: dict[tuple[str, str], list[Asked]],
    jobs: Sequence[tuple[Pass, list[int]]],
) -> Iterator[list[Observation]]:
    """The observations of each batch."""
    from unierase_cli.inference.observe import observe

    evaluation = context.experiment.eval
    for entry, batch in jobs:
        scored = not evaluation.truth_ratio_splits or entry.split in evaluation.truth_ratio_splits
        yield from observe(
            loaded,
            asked[entry.split, entry.variant],
            [batch],
            split=entry.split,
            variant=entry.variant,
            protocol=context.experiment.protocol,
            wrong_answers=evaluation.truth_ratio and scored,
        )
