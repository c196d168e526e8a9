"""Stage ``train_token``: the unlearning tokens of a model and a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import NAME_SLOT, Fact, UserError, fill_name
from unierase_cli.pipeline.mode_plan import is_stepwise, plan_of, token_questions
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings
from unierase_cli.pipeline.stage import Request, StageContext, benchmark_of
from unierase_cli.stages.moments import wanted_layers
from unierase_cli.store.hashing import hash_json

NAME = "train_token"
VERSION = 3
READS_BENCHMARK = True


def reads(experiment: Experiment, options: dict[str, str]) -> dict[str, Any]:
    """The token section but for the refinement after an edit, the prompt format, the seed, and the edited layers where noise is put
    on them."""
    token = experiment.token
    noisy = any(stage.noise and stage.epochs for stage in token.stages)
    settings = {key: value for key, value in counted(token).items() if not key.startswith("refine")}
    return {
        "token": {**settings, "questions": token_questions(experiment)},
        "model": model_settings(experiment),
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
    facts = benchmark.forget if wanted == "forget" else benchmark.outside
    if wanted == "forget" and is_stepwise(experiment):
        asked = {fact.id for step in plan_of(experiment) for fact in step.forget}
        facts = tuple(fact for fact in facts if fact.id in asked)
    if not facts:
        raise UserError(
            f"benchmark={benchmark.name} has no questions for token.questions={wanted}",
            "set token.questions=forget (then the token knows all requests)" if wanted == "outside" else "check benchmark.split",
        )
    return facts


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
