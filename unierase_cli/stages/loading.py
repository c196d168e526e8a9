"""The model that a stage works on: as trained, or with an erase artefact's token and patches applied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.stages.base import Request
from unierase_cli.store.artefacts import Artefact

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


def model_needs(experiment: Experiment) -> dict[str, Request]:
    """The finetune artefact if the model is one that this tool trains, else nothing."""
    if experiment.model.path is not None:
        return {}
    if experiment.train.name == "none":
        raise UserError(
            f"model={experiment.model.name} has no model.path and train=none trains nothing",
            "give model.path=FOLDER_OR_HUB_ID, or choose model=mini train=mini",
        )
    return {"finetune": Request("finetune")}


def model_fingerprints(experiment: Experiment) -> dict[str, str]:
    """Hash of the model's files (local) or its hub id and revision; nothing for a model that finetune makes."""
    if experiment.model.path is None:
        return {}
    from unierase_cli.models.fingerprint import fingerprint_model

    path = Path(experiment.model.path)
    if path.is_dir():
        return {"model": fingerprint_model(path)}
    return {"model": f"{experiment.model.path}@{experiment.model.revision or 'default branch'}"}


def load_base(experiment: Experiment, inputs: dict[str, Artefact], reporter: Reporter) -> LoadedModel:
    """The unedited model."""
    from unierase_cli.models.load import load_model

    folder = inputs["finetune"].path / "model" if "finetune" in inputs else None
    with reporter.phase("load model"):
        return load_model(experiment.model, experiment.run, path=folder, reporter=reporter)


def apply_erasure(loaded: LoadedModel, erasure: Path) -> None:
    """Add the token rows and the weight changes of every step of an erase artefact, in step order."""
    from unierase_cli.editing.patch import Patch, apply_patches

    steps = sorted(int(p.stem.split("-")[1]) for p in erasure.glob("patch-*.safetensors"))
    if not steps:
        raise UserError(f"{erasure} holds no patch", "the artefact is damaged: make it anew with --force")
    apply_patches(loaded, (Patch.load(erasure, step) for step in steps))


def load_edited(experiment: Experiment, inputs: dict[str, Artefact], reporter: Reporter) -> LoadedModel:
    """The model after the erase artefact among ``inputs``."""
    loaded = load_base(experiment, inputs, reporter)
    apply_erasure(loaded, inputs["erase"].path)
    return loaded
