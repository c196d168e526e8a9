"""The retain reference: a model that never saw the forget set, found among existing artefacts or made now.

``eval.retain_reference`` names its observations (a folder), or is ``train``; then the finetune stage trains the model
only on the retain rows. If it is null, matching observations are used if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from msgspec import defstruct

from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.stages.shared.retain_reference import OBSERVED
from unierase_cli.stages.shared.same_section import same_section
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import decoded

TRAIN = "train"
Section = dict[str, Any]
# What a manifest must record to decide whether its observations match; older manifests may lack some of it.
CONFIG: list[Any] = [
    ("protocol", Section), ("model", defstruct("Model", [("path", str | None)])), ("benchmark", Section), ("eval", Section),
    ("train", defstruct("Train", [("split", str, "")]), None), ("mode", Section, {}),
]  # fmt: skip
RECORDED = defstruct("Recorded", [("options", Section), ("config", defstruct("Config", CONFIG))])
# Training settings that are not compared: the split, which must differ, and the preset's name.
NOT_COMPARED = ("split", "name")


def with_reference(
    experiment: Experiment, reporter: Reporter, pipeline: Callable[[Experiment], Pipeline]
) -> Experiment:
    """The experiment with ``eval.retain_reference`` resolved: a folder of observations, or still null.

    Raises UserError for ``train`` if this tool does not train the model.
    """
    named = experiment.eval.retain_reference
    if named is None:
        found = _found(experiment)
        if found is None:
            return experiment
        reporter.note(f"forget quality compares with {found.path} (eval.retain_reference)")
        return _naming(experiment, found)
    if named != TRAIN:
        return experiment
    _check_trainable(experiment)
    other = replace(
        experiment,
        train=replace(experiment.train, split="retain"),
        eval=replace(experiment.eval, retain_reference=None, passes=[], general=GeneralConfig()),
        run=replace(experiment.run, force=False),
    )
    return _naming(experiment, pipeline(other).make("observe", state="base"))


def planned_reference(
    experiment: Experiment, reporter: Reporter, pipeline: Callable[[Experiment], Pipeline]
) -> Experiment:
    """``with_reference`` for a plan, which makes nothing: a reference that must be trained first is only mentioned."""
    if experiment.eval.retain_reference != TRAIN:
        return with_reference(experiment, reporter, pipeline)
    _check_trainable(experiment)
    reporter.note("eval.retain_reference=train: the retain-only model and its observations are made before this plan")
    return replace(experiment, eval=replace(experiment.eval, retain_reference=None))


def _check_trainable(experiment: Experiment) -> None:
    if experiment.model.path is not None:
        raise UserError(
            "eval.retain_reference=train: the model comes from model.path, so its retain-only twin cannot be made here",
            "observe one: unierase eval method=none model.path=RETAIN_MODEL, then eval.retain_reference=ITS_OBSERVE_FOLDER",
        )


def _found(experiment: Experiment) -> Artefact | None:
    """The newest matching observations: of this model, trained and asked in the same way but only on the retain rows.

    The forget split's wrong answers must be scored.
    """
    for artefact in reversed(Store(experiment.run.outputs).list("observe")):
        try:
            decoded(artefact.manifest, RECORDED)
        except ValueError:  # from a version that recorded less
            continue
        config = artefact.config
        model, train = config["model"], config.get("train", {})
        if (
            artefact.manifest["options"].get("state") == "base"
            and same_section(config["benchmark"], experiment.benchmark)
            and same_section(train, experiment.train, NOT_COMPARED)
            and config.get("mode", {}).get("tasks") == experiment.mode.tasks
            and (model["name"], model["path"]) == (experiment.model.name, None)
            and experiment.model.path is None
            and train.get("split", "").startswith("retain")
            and not experiment.train.split.startswith("retain")
            and _asking(config) == _asking(asdict(experiment))
            and config["run"]["seed"] == experiment.run.seed
            and config["eval"].get("truth_ratio", True)
            and artefact.has(OBSERVED)
        ):
            return artefact
    return None


def _asking(config: Mapping[str, Any]) -> list[Any]:
    """The recorded settings that shape how a model is asked."""
    protocol, model = config["protocol"], config["model"]
    named = [protocol.get(key) for key in ("max_new_tokens", "total_tokens")]
    return [*named, *(model.get(key) for key in ("prompt", "system", "instruction", "date", "dtype"))]


def _naming(experiment: Experiment, observed: Artefact) -> Experiment:
    return replace(experiment, eval=replace(experiment.eval, retain_reference=str(observed.path)))
