"""Stage ``train_token``: the unlearning tokens of a model and a benchmark."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import NAME_SLOT, Fact, UserError, evenly_spaced, fill_name
from unierase_cli.pipeline.mode_plan import is_stepwise, plan_of, token_questions
from unierase_cli.pipeline.model_states import load_base, made_with, model_fingerprints, model_needs
from unierase_cli.pipeline.stage import Request, StageContext, benchmark_of
from unierase_cli.stages.moments import wanted_layers
from unierase_cli.store.hashing import hash_json

NAME = "train_token"
VERSION = 2
READS_BENCHMARK = True
# What does not change the trained rows: the preset's name, a threshold for a warning, and the refinement after an edit.
NOT_READ = ("name", "improbable", "per_step", "targets")


def reads(experiment: Experiment, options: dict[str, str]) -> dict[str, Any]:
    """The token section, the prompt format, the seed, and the edited layers where noise is put on them."""
    token = experiment.token
    noisy = any(stage.noise and stage.epochs for stage in token.stages)
    settings = {key: value for key, value in asdict(token).items() if key not in NOT_READ and not key.startswith("refine")}
    settings |= {"questions": token_questions(experiment), **({"per_step": True} if token.per_step else {})}
    return {
        "token": settings,
        "model": made_with(experiment),
        "layers": wanted_layers(experiment) if noisy else None,
        "seed": experiment.run.seed,
    }


def needs(experiment: Experiment, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(experiment)


def fingerprints(experiment: Experiment, options: dict[str, str]) -> dict[str, str]:
    """Of the model, the questions, the refusals, and which facts the tokens are for where there are several."""
    from unierase_cli.training.token.targets import load_targets

    found = model_fingerprints(experiment)
    targets, asked = load_targets(experiment.token), questions(experiment)
    named = any(NAME_SLOT in text for text in targets)
    found["questions"] = hash_json([[fact.id, fact.question, *([fill_name(NAME_SLOT, fact)] if named else [])] for fact in asked])
    found["held_out"] = hash_json([[fact.id, fact.question] for fact in held_out(experiment)])
    found["targets"] = hash_json(targets)
    if experiment.token.per_step:
        found["facts"] = hash_json(_assignment(experiment))
    elif experiment.token.groups > 1:
        found["facts"] = hash_json([fact.id for fact in benchmark_of(experiment).forget])
    return found


def _groups(experiment: Experiment) -> int:
    """How many tokens there are: as many as named, or one for each step."""
    return len(plan_of(experiment)) if experiment.token.per_step else experiment.token.groups


def _assignment(experiment: Experiment) -> dict[str, int]:
    """Fact to forget -> its token."""
    from unierase_cli.training.token.pairs import assign_groups

    if experiment.token.per_step:
        return {fact.id: step.index for step in plan_of(experiment) for fact in step.forget}
    return assign_groups(benchmark_of(experiment).forget, experiment.token.groups)


def questions(experiment: Experiment) -> tuple[Fact, ...]:
    """What the token is trained on: the forget set, of a sequence what it asks for, or questions outside every forget set and
    every scored split."""
    benchmark = benchmark_of(experiment)
    wanted = token_questions(experiment)
    kept = {fact.id for fact in held_out(experiment)}
    facts = benchmark.forget if wanted == "forget" else tuple(fact for fact in benchmark.outside if fact.id not in kept)
    if wanted == "forget" and is_stepwise(experiment):
        asked = {fact.id for step in plan_of(experiment) for fact in step.forget}
        facts = tuple(fact for fact in facts if fact.id in asked)
    if not facts:
        raise UserError(
            f"benchmark={benchmark.name} has no questions for token.questions={wanted}",
            "set token.questions=forget (then the token knows all requests)" if wanted == "outside" else "check benchmark.split",
        )
    return facts


def held_out(experiment: Experiment) -> tuple[Fact, ...]:
    """Questions outside every forget set that the token is not trained on: by them its training sees whether it has learned enough;
    none where half of what there is would not be left to train on.
    """
    token, outside = experiment.token, benchmark_of(experiment).outside
    looking = any(stage.until is not None for stage in token.stages)
    return evenly_spaced(outside, token.held_out) if looking and len(outside) >= 2 * token.held_out else ()


def run(context: StageContext) -> dict[str, Any]:
    """Train the rows; an interrupted training goes on from its last epoch."""
    from unierase_cli.training.token.learning import clear_states, train_token

    experiment, reporter = context.experiment, context.reporter
    loaded = load_base(experiment, context.inputs, reporter)
    named = wanted_layers(experiment)
    layers = loaded.architecture.default_layers() if named is None else named
    loaded.architecture.check_layers(layers)
    facts, assignment = questions(experiment), _assignment(experiment)
    with reporter.phase("train token"):
        rows = train_token(
            loaded,
            facts,
            replace(experiment.token, groups=_groups(experiment), per_step=False),
            layers=layers,
            seed=experiment.run.seed,
            reporter=reporter,
            checkpoint_dir=context.directory,
            assignment=assignment if token_questions(experiment) == "forget" else None,
            held_out=held_out(experiment),
        )
    if _groups(experiment) > 1:
        rows = replace(rows, assignment={**rows.assignment, **assignment})
    rows.save(context.directory)
    clear_states(context.directory)
    continuation = rows.info["continuation"]
    return {
        "tokens": rows.names,
        "questions": len(facts),
        "last_loss": [phase["losses"][-1] for phase in rows.info["phases"]],
        "to_a_refusal": continuation["to_a_refusal"],
        "to_own_target": continuation["to_own_target"],
        "refusals_before": rows.info["refusals_before"],
    }
