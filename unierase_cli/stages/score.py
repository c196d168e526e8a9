"""Stage ``score``: every metric of the unedited and of the edited model, side by side, from their observations alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.stages.base import Request, StageContext
from unierase_cli.store.artefacts import Artefact, write_json
from unierase_cli.store.hashing import hash_file, hash_json

if TYPE_CHECKING:
    from unierase_cli.contracts import Observation
    from unierase_cli.metrics.base import Evidence

NAME = "score"
VERSION = 1
METRICS = "metrics.json"
REFERENCE = "forget.plain.jsonl"


def reads(experiment: Experiment, options: dict[str, str]) -> dict[str, Any]:
    """The versions of all metrics: what is scored differently is scored anew, without asking the model again."""
    from unierase_cli.metrics.catalog import all_metrics

    return {"metrics": {metric.NAME: metric.VERSION for metric in all_metrics()}}


def needs(experiment: Experiment, options: dict[str, str]) -> dict[str, Request]:
    return {state: Request("observe", (("state", state),)) for state in ("base", "edited")}


def fingerprints(experiment: Experiment, options: dict[str, str]) -> dict[str, str]:
    """The listed refusals and the retain reference, by content."""
    from unierase_cli.training.token_targets import load_targets

    found = {"refusals": hash_json(load_targets(experiment.token))}
    if experiment.eval.retain_reference is not None:
        found["retain_reference"] = hash_file(_reference_file(experiment.eval.retain_reference))
    return found


def run(context: StageContext) -> dict[str, Any]:
    """Write ``metrics.json`` (see ``metrics.compare``); the summary holds the table's rows."""
    from unierase_cli.metrics.compare import compare, summary, unchanged

    with context.reporter.phase("score"):
        base, edited = (_evidence(context, context.inputs[state]) for state in ("base", "edited"))
        metrics = compare(base, edited)
        effect = unchanged(base, edited)
    if effect:
        context.reporter.warn(effect)
    metrics["warnings"] = [effect] if effect else []
    write_json(context.directory / METRICS, metrics)
    return {"rows": summary(metrics), "warnings": metrics["warnings"]}


def _evidence(context: StageContext, observed: Artefact) -> Evidence:
    from unierase_cli.metrics.base import Evidence
    from unierase_cli.stages.observation_files import read_state
    from unierase_cli.training.token_targets import load_targets

    plan, observations = read_state(observed.path)
    return Evidence(
        plan.state,
        observations,
        refusals=load_targets(context.experiment.token),
        special_ids=plan.special_ids,
        reference=_reference(context.experiment.eval.retain_reference),
    )


def _reference(folder: str | None) -> list[Observation]:
    """The forget observations of a model that never saw the forget set; none if no folder is named."""
    from unierase_cli.stages.observation_files import read_state

    if folder is None:
        return []
    _, observations = read_state(_reference_file(folder).parent)
    return list(observations["forget", "plain"])


def _reference_file(folder: str) -> Path:
    path = Path(folder) / REFERENCE
    if not path.exists():
        raise UserError(
            f"eval.retain_reference={folder} holds no {REFERENCE}",
            "name the folder of an observe artefact, see `unierase ls`",
        )
    return path
