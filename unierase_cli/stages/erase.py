"""Stage ``erase``: runs any method on every step of the mode's plan and keeps each step's change as a patch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import defstruct

from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment, what_counts
from unierase_cli.config.sections.attribute import ATTRIBUTION
from unierase_cli.config.sections.reveal import OF_SEARCH
from unierase_cli.contracts import Step, UserError
from unierase_cli.estimate.early_checks import check_method, check_reference_size
from unierase_cli.methods.parts import parts_of
from unierase_cli.methods.settings import completed
from unierase_cli.methods.traits import reveals, samples
from unierase_cli.pipeline.model_states import INDEPENDENT, model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.moments import preserved
from unierase_cli.stages.shared.edited_layers import key_position, layer_needs, wanted_layers
from unierase_cli.stages.shared.erase_context import for_step, prepare, with_subjects
from unierase_cli.stages.shared.erasing_code import erasing_code
from unierase_cli.stages.shared.reveal_inputs import inputs_fingerprints
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.json_text import Finite
from unierase_cli.store.jsonl import append_jsonl, read_rows_as, write_jsonl
from unierase_cli.store.patch_files import TIMES
from unierase_cli.store.unlearned import FORGOTTEN
from unierase_cli.training.token.targets import load_targets

NAME = "erase"
VERSION = 6
TIME: Any = defstruct("Time", [("step", int), ("seconds", Finite)])
STATE = "state.safetensors"
STEPS = "steps.jsonl"


def uses_token(experiment: Experiment) -> bool:
    """Whether the edit leads to an unlearning token (``edit.target`` can make a token method lead directly to a text)."""
    return experiment.method.token and experiment.edit.target == "token"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The method, the mode, and the settings of editing or training; token and moments enter by their keys."""
    experiment = completed(study.experiment)
    found = {
        "method": [experiment.method.name, experiment.method.implemented_by],
        "mode": counted(experiment.mode),
        "model": model_settings(experiment),
        "seed": experiment.run.seed,
    }
    parts = parts_of(experiment)
    if experiment.method.chain:
        found |= {"settings": experiment.method.settings, "moments": counted(experiment.edit.moments)}
        return {**found, "parts": [[name, part.method.implemented_by, _reads_of(part)] for name, part in parts.items()]}
    return {**found, **_reads_of(experiment)}


def _reads_of(experiment: Experiment) -> dict[str, Any]:
    """What one method reads."""
    if not experiment.method.editing:
        asked: dict[str, Any] = {}
        if samples(experiment.method):
            asked["max_new_tokens"] = experiment.protocol.max_new_tokens
        if reveals(experiment):
            asked["reveal"] = {key: value for key, value in counted(experiment.reveal).items() if key not in OF_SEARCH}
        # Texts that end an answer, where a method asks the model.
        if asked or experiment.unlearn.answers == "model":
            asked["stop"] = stop_texts(experiment)
        return {"trained": what_counts(experiment), **asked}
    refines = uses_token(experiment) and experiment.token.refine_epochs
    edit = counted(experiment.edit) | {"layers": wanted_layers(experiment), "key_position": key_position(experiment)}
    # The key of the moments artefact covers these.
    del edit["moments"]
    return {
        "settings": experiment.method.settings,
        "edit": edit,
        "refine": {k: v for k, v in counted(experiment.token).items() if k.startswith("refine")} if refines else {},
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    experiment = study.experiment
    found = model_needs(experiment) | (layer_needs(experiment) if experiment.method.editing else {})
    if uses_token(experiment):
        found["train_token"] = Request("train_token")
    if experiment.method.editing:
        found["moments"] = Request("moments")
    if any(part.unlearn.token_weights == ATTRIBUTION and not part.method.editing for part in parts_of(experiment).values()):
        found["attribute"] = Request("attribute")
    return found


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    check_method(study)
    experiment = study.experiment
    found = {**model_fingerprints(experiment), "benchmark": study.benchmark.fingerprint}
    found["refusals"] = hash_json(load_targets(experiment.token))
    if uses_token(experiment) and experiment.token.refine_epochs and any(fact.kind for fact in preserved(study)):
        # A refined row used to keep its logits where these texts would end as questions.
        found["protected"] = "plain text too"
    found["steps"] = hash_json([[[fact.id for fact in facts] for facts in (step.forget, step.hold)] for step in study.steps])
    for name, part in parts_of(experiment).items():
        weights, place = part.unlearn.token_weights, f"method.chain.{name}." if name else ""
        if weights == ATTRIBUTION and name and not part.method.editing:
            # The need for an attribution does not say which parts of a chain use it.
            found[f"{place}token_weights"] = ATTRIBUTION
        if weights not in (None, ATTRIBUTION) and not part.method.editing:
            assert weights is not None
            if not Path(weights).is_file():
                raise UserError(f"{place}unlearn.token_weights={weights} is not a file", "check the path")
            found[f"{place}token_weights"] = hash_file(Path(weights))
        if reveals(part):
            found |= {f"reveal {name}": text for name, text in inputs_fingerprints(part.reveal).items()}
    return {**found, **erasing_code(experiment)}


def check(study: Study) -> None:
    """Check what the method itself refuses, and whether the stored reference would be far too large."""
    from unierase_cli.methods.base import load_method

    experiment = study.experiment
    asked = getattr(load_method(experiment.method.implemented_by), "check", None)
    if asked is not None:
        asked(experiment, study.steps, load_targets(experiment.token))
    check_reference_size(study)


def run(context: StageContext) -> dict[str, Any]:
    """Erase step by step; a step that was finished before an interruption is applied from its patch."""
    from unierase_cli.editing.patch import Patch
    from unierase_cli.editing.state import EditState
    from unierase_cli.methods.base import load_method
    from unierase_cli.training import processes

    study, experiment, directory = context.study, context.experiment, context.directory
    method = load_method(experiment.method.implemented_by)
    steps: Sequence[Step] = study.steps
    if experiment.method.editing:
        steps = with_subjects(steps, study.benchmark, context.reporter)
    for remark in study.remarks:
        context.reporter.warn(remark)
    # In modes like `precise` every step starts from the original model and passes nothing on.
    independent = study.independent
    loaded, erasing = prepare(context, several=len(steps) > 1)
    state = EditState.load(directory / STATE) if (directory / STATE).exists() else EditState()
    infos = []
    with context.reporter.progress("erasing", len(steps)) as advance:
        for step in steps[: state.steps]:
            patch = Patch.load(directory, step.index)
            infos.append(patch.info)
            if not independent:
                erasing.weights.add_patch(patch)
                erasing.tokens = patch.rows
            advance()
        for step in steps[state.steps :]:
            if independent:
                erasing.weights.revert()
                state = EditState(state.steps, state.templates)
            # A chain adds the token when the part that needs it begins.
            if erasing.tokens is not None and not experiment.method.chain:
                erasing.weights.set_tokens(erasing.tokens)
            started = time.perf_counter()
            patch, state = method.erase(loaded, step, state, for_step(study, erasing, step))
            about = {**patch.info, FORGOTTEN: [fact.content_hash for fact in step.forget]}
            patch = replace(patch, info={**about, INDEPENDENT: True} if independent else about)
            if not independent:
                erasing.tokens = patch.rows
            if processes.rank() == 0:
                patch.save(directory, step.index)
                seconds = round(time.perf_counter() - started, 3)
                append_jsonl(directory / TIMES, [{"step": step.index, "seconds": seconds}])
                state.save(directory / STATE)
                # The finished step no longer needs its checkpoints.
                _clear(directory)
            infos.append(patch.info)
            advance()
    if processes.rank() == 0:
        # Checkpoints left by a run that was killed after saving its last step.
        _clear(directory)
        write_jsonl(directory / STEPS, infos)
    return _summary(infos)


def step_seconds(erased: Artefact) -> dict[int, float]:
    """Seconds of each step of an erase artefact (the last time it was made), as far as they were recorded."""
    if not erased.has(TIMES):
        return {}
    rows = read_rows_as(erased.file(TIMES), TIME, "make the edit again with --force")
    return {row.step: row.seconds for row in rows}


def _clear(directory: Path) -> None:
    """Remove the checkpoints of interrupted steps; call it after the last step is saved."""
    from unierase_cli.editing.checkpoints import clear_values
    from unierase_cli.editing.kept_parts import clear_parts
    from unierase_cli.training.checkpoints import clear_checkpoints
    from unierase_cli.training.token.learning import clear_states

    clear_parts(directory)
    for folder in [directory, *directory.rglob("training-*")]:
        clear_values(folder)
        clear_states(folder)
        clear_checkpoints(folder)


def _summary(infos: list[dict[str, Any]]) -> dict[str, Any]:
    first = [p for info in infos for p in info.get("first_token_probability", [])]
    return {
        "steps": len(infos),
        "facts": sum(len(info.get("facts", [])) for info in infos),
        "without_subject": sum(info.get("without_subject", 0) for info in infos),
        "changed_share": infos[-1].get("changed_share"),
        "layers": infos[-1].get("layers"),
        "first_token_probability": sum(first) / len(first) if first else None,
    }
