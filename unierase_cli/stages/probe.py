"""Stage ``probe``: further passes over a model state (``base`` or ``edited``), one JSON Lines file each.

They are requested by name (``eval.passes``), in addition to observations, which cost one generation and one
teacher-forced pass. A pass that was finished before an interruption is not run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.asked_rows import scored_splits
from unierase_cli.pipeline.model_states import (
    apply_erasure,
    load_base,
    model_fingerprints,
    model_settings,
    protocol_settings,
    state_needs,
)
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.plugins import code_of
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.jsonl import iterate_jsonl, read_asset, write_jsonl

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel
    from unierase_cli.probes.base import Asking

NAME = "probe"
VERSION = 3
TEXTS = "texts.jsonl"
NEEDS_REFERENCE = "reference_loss"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and asked, and the versions of the requested passes."""
    from unierase_cli.probes.base import load_pass

    experiment = study.experiment
    return {
        "model": model_settings(experiment),
        "protocol": protocol_settings(experiment),
        "passes": {name: load_pass(name).VERSION for name in experiment.eval.passes},
        "splits": experiment.eval.splits,
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return state_needs(study.experiment, options["state"])


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The models' files, the rows and the texts, and the code of the passes."""
    from unierase_cli.probes.base import PASSES

    experiment = study.experiment
    rows = {split: [[f.id, f.row_hash] for f in facts] for split, facts in scored_splits(study).items()}
    found = {**model_fingerprints(experiment), "rows": hash_json(rows), **code_of("pass", PASSES, *experiment.eval.passes)}
    if experiment.eval.texts is not None:
        found["texts"] = hash_file(_texts_file(experiment.eval.texts))
    if NEEDS_REFERENCE in experiment.eval.passes:
        other = model_fingerprints(_of_reference(experiment))
        found["reference"] = other["model"]
    return found


def run(context: StageContext) -> dict[str, Any]:
    """Run every pass; returns the number of rows of each."""
    from unierase_cli.probes.base import Asking, load_pass

    experiment, reporter = context.experiment, context.reporter
    passes = {name: load_pass(name) for name in dict.fromkeys(experiment.eval.passes)}
    loaded = load_base(experiment, context.inputs, reporter)
    asking = Asking(
        facts=scored_splits(context.study),
        texts=_texts(experiment),
        protocol=experiment.protocol,
        batch_size=experiment.eval.batch_size,
        reference=lambda: _reference(context),
    )
    files = {name: context.directory / f"{name}.jsonl" for name in passes}
    left = {name: found for name, found in passes.items() if not files[name].exists()}
    remembered: dict[str, Any] = {}
    if context.options["state"] == "edited":
        for name, found in left.items():
            if hasattr(found, "remember"):
                with reporter.phase(f"probe base {name}"):
                    remembered[name] = found.remember(loaded, asking)
        apply_erasure(loaded, context.inputs["erase"].whole)
    for name, found in left.items():
        _run_pass(context, name, found, loaded, asking, remembered.get(name), files[name])
    return {"rows": {name: sum(1 for _ in iterate_jsonl(path)) for name, path in files.items()}}


def _run_pass(
    context: StageContext, name: str, found: Any, loaded: LoadedModel, asking: Asking, remembered: Any, path: Path
) -> None:
    title = f"probe {context.options['state']} {name}"
    with context.reporter.phase(title), context.reporter.progress(title, found.count(asking)) as advance:
        write_jsonl(path, list(found.rows(loaded, replace(asking, advance=advance), remembered)))


def _texts(experiment: Experiment) -> list[str]:
    if experiment.eval.texts is None:
        return [row["text"] for row in read_asset(TEXTS)]
    texts = []
    for number, row in iterate_jsonl(_texts_file(experiment.eval.texts)):
        if not isinstance(row.get("text"), str) or not row["text"]:
            where = f"{experiment.eval.texts}:{number}"
            raise UserError(f"{where}: no string `text`", 'write {"text": "..."} on every line')
        texts.append(row["text"])
    if not texts:
        raise UserError(f"eval.texts={experiment.eval.texts} has no text", 'write {"text": "..."} on every line')
    return texts


def _texts_file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise UserError(f"eval.texts={path} does not exist", "give a JSON Lines file with `text`, or null")
    return path


def _of_reference(experiment: Experiment) -> Experiment:
    """The experiment with the reference model instead of its own model."""
    if experiment.eval.reference_model is None:
        what = f"the pass {NEEDS_REFERENCE} needs a model that never saw the forget set"
        raise UserError(what, "give eval.reference_model=FOLDER_OR_HUB_ID")
    return replace(experiment, model=replace(experiment.model, path=experiment.eval.reference_model, revision=None))


def _reference(context: StageContext) -> LoadedModel:
    return load_base(_of_reference(context.experiment), {}, context.reporter)
