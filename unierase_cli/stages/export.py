"""A merged Hugging Face folder from an erase artefact: base weights, token rows and weight changes in one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.stages.base import Request
from unierase_cli.stages.loading import apply_erasure, load_base, model_needs
from unierase_cli.store.artefacts import Artefact, Store


def find_erasure(run: Artefact, store: Store) -> Artefact:
    """The erase artefact that ``run`` is or was made from."""
    if run.stage == "erase":
        return run
    queue = [run]
    while queue:
        current = queue.pop(0)
        for need in current.manifest.get("inputs", {}).values():
            found = store.find_path(need["path"], need["key"])
            if found is not None and found.stage == "erase":
                return found
            if found is not None:
                queue.append(found)
    raise UserError(f"{run.name} was not made from an edit", "name a run of stage erase, score or report")


def export(run: Artefact, destination: Path, reporter: Reporter, outputs: str = "outputs") -> dict[str, Any]:
    """Write the edited model of ``run`` (its tokenizer included) to ``destination`` as plain safetensors.

    ``AutoModelForCausalLM.from_pretrained(destination)`` gives the same logits as the model that was evaluated.
    Raises UserError when the folder exists and is not empty, or when the run holds no edit.
    """
    if destination.exists() and any(destination.iterdir()):
        raise UserError(f"{destination} exists and is not empty", "name a new folder")
    from unierase_cli.models.files import save_folder

    store = Store(outputs)
    erasure = find_erasure(run, store)
    experiment = Experiment.from_json(erasure.manifest["config"])
    inputs = {}
    for name, need in model_needs(experiment).items():
        source = _input(erasure, name, need, store)
        inputs[name] = source
    loaded = load_base(experiment, inputs, reporter)
    apply_erasure(loaded, erasure.path)
    partial = destination.with_name(destination.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    with reporter.phase("write"):
        save_folder(loaded.model, loaded.tokenizer, partial)
    if destination.exists():
        destination.rmdir()
    partial.rename(destination)
    names = [str(loaded.tokenizer.convert_ids_to_tokens(i)) for i in loaded.unlearn_ids]
    reporter.note(f"{erasure.name} is merged in {destination}; unlearning tokens: {', '.join(names) or 'none'}")
    return {"run": erasure.name, "destination": str(destination), "unlearning_tokens": names}


def _input(erasure: Artefact, name: str, need: Request, store: Store) -> Artefact:
    record = erasure.manifest["inputs"].get(name)
    found = store.find_path(record["path"], record["key"]) if record else None
    if found is None:
        raise UserError(
            f"the {need.stage} artefact that {erasure.name} was made from is gone", "run the experiment again"
        )
    return found
