"""Stage ``train_token``: trains the unlearning tokens for a model and a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import TRACED
from unierase_cli.contracts import NAME_SLOT, Fact, UserError, evenly_spaced, fill_name
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.edited_layers import edited_layers, layer_needs, wanted_layers
from unierase_cli.store.hashing import hash_json

NAME = "train_token"
VERSION = 4


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The token section without the refinement, the prompt format, the seed, and the edited layers if noise is added to them."""
    experiment, token = study.experiment, study.experiment.token
    settings = {key: value for key, value in counted(token).items() if not key.startswith("refine")}
    return {
        "token": {**settings, "questions": study.token_questions},
        "model": model_settings(experiment),
        "layers": wanted_layers(experiment) if _noisy(experiment) else None,
        "seed": experiment.run.seed,
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    experiment = study.experiment
    return model_needs(experiment) | (layer_needs(experiment) if _noisy(experiment) else {})


def _noisy(experiment: Experiment) -> bool:
    """Whether noise is added to the edited layers."""
    return any(stage.noise and stage.epochs for stage in experiment.token.stages)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """Fingerprints of the model, the questions, the refusals, and the tokens' facts if there are several tokens."""
    from unierase_cli.training.token.targets import load_targets

    token, found = study.experiment.token, model_fingerprints(study.experiment)
    targets, asked = load_targets(token), questions(study)
    named = any(NAME_SLOT in text for text in targets)

    def told(facts: Sequence[Fact]) -> str:
        filled = [[fill_name(NAME_SLOT, fact)] if named else [] for fact in facts]
        return hash_json([[f.id, f.question, *name, *f.kind_key] for f, name in zip(facts, filled, strict=True)])

    found["questions"], found["held_out"] = told(asked), told(held_out(study))
    found["targets"] = hash_json(targets)
    if token.per_step:
        found["facts"] = hash_json(_assignment(study))
    elif token.groups > 1:
        found["facts"] = hash_json([fact.id for fact in study.benchmark.forget])
    return found


def _groups(study: Study) -> int:
    """The number of tokens: token.groups, or one per step."""
    token = study.experiment.token
    return len(study.steps) if token.per_step else token.groups


def _assignment(study: Study) -> dict[str, int]:
    """Fact to forget -> index of its token."""
    from unierase_cli.training.token.pairs import assign_groups

    if study.experiment.token.per_step:
        return {fact.id: step.index for step in study.steps for fact in step.forget}
    return assign_groups(study.benchmark.forget, study.experiment.token.groups)


def questions(study: Study) -> tuple[Fact, ...]:
    """The questions that the token is trained on.

    These are the forget set (in a sequence, what is requested), or questions outside every forget set and every scored
    split.
    """
    benchmark = study.benchmark
    wanted = study.token_questions
    kept = {fact.id for fact in held_out(study)}
    facts = benchmark.forget if wanted == "forget" else tuple(fact for fact in benchmark.outside if fact.id not in kept)
    if wanted == "forget" and study.stepwise:
        asked = {fact.id for step in study.steps for fact in step.forget}
        facts = tuple(fact for fact in facts if fact.id in asked)
    if not facts:
        raise UserError(
            f"benchmark={benchmark.name} has no questions for token.questions={wanted}",
            "set token.questions=forget (then the token knows all requests)" if wanted == "outside" else "check benchmark.split",
        )
    return facts


def held_out(study: Study) -> tuple[Fact, ...]:
    """Questions outside every forget set that are held out from training, on which stages with ``until`` are evaluated.

    Empty if fewer than half of the available questions would be left to train on.
    """
    token, outside = study.experiment.token, study.benchmark.outside
    looking = any(stage.until is not None for stage in token.stages)
    # At least one question per token.
    count = max(token.held_out, _groups(study)) if token.held_out else 0
    return evenly_spaced(outside, count) if looking and len(outside) >= 2 * count else ()


def run(context: StageContext) -> dict[str, Any]:
    """Train the rows; an interrupted training resumes from its last epoch."""
    from unierase_cli.training.token.learning import clear_states, train_token

    study, experiment, reporter = context.study, context.experiment, context.reporter
    loaded = load_base(experiment, context.inputs, reporter)
    # Blocks that are still to be traced are only needed for noise.
    traced = wanted_layers(experiment) == TRACED and not _noisy(experiment)
    layers = [] if traced else edited_layers(context, loaded)
    facts, assignment = questions(study), _assignment(study)
    with reporter.phase("train token"):
        rows = train_token(
            loaded,
            facts,
            replace(experiment.token, groups=_groups(study), per_step=False),
            layers=layers,
            seed=experiment.run.seed,
            reporter=reporter,
            checkpoint_dir=context.directory,
            assignment=assignment if study.token_questions == "forget" else None,
            held_out=held_out(study),
        )
    if _groups(study) > 1:
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
