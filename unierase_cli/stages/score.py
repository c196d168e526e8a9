"""Stage ``score``: computes every metric of the unedited and the edited model from their observations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from unierase_cli.benchmarks.general.base import SUITES
from unierase_cli.benchmarks.parts.shown import hides_texts, texts_fingerprint
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import NAME_SLOT, name_of
from unierase_cli.methods.traits import changes_nothing
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.plugins import code_of
from unierase_cli.stages import general
from unierase_cli.stages.shared.cut_short import told_of_state
from unierase_cli.stages.shared.retain_reference import check_reference, load_reference, other_tokens
from unierase_cli.store.hashing import hash_file, hash_json
from unierase_cli.store.json_text import write_json

if TYPE_CHECKING:
    from unierase_cli.metrics.base import Evidence
    from unierase_cli.metrics.judges.judges import Judges
    from unierase_cli.metrics.scores import Scores

NAME = "score"
VERSION = 3
METRICS = "metrics.json"
# Fingerprint of the names that refusals are filled with.
NAMES = "names"
# Also read from a retain reference if it has this file, for membership attacks.
HOLDOUT = "holdout.plain.jsonl"
STATES = ("base", "edited")


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """The versions of all metrics and the judges; a changed metric is computed again without asking the model."""
    from unierase_cli.metrics.catalog import metric_versions

    wanted = study.experiment.eval
    judges: dict[str, Any] = {"encoder": wanted.encoder, "nli": wanted.nli, "gibberish": wanted.gibberish}
    # A longer time limit may make a judge available.
    judges |= {"refusal_encoder": wanted.refusal_encoder, "seconds": wanted.judge_seconds}
    return {"metrics": metric_versions(), "judges": judges, **general.judged_by(study.experiment)}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    found = {state: Request("observe", (("state", state),)) for state in STATES}
    if study.experiment.eval.passes:
        found |= {f"probe_{state}": Request("probe", (("state", state),)) for state in STATES}
    if study.experiment.eval.general.wanted:
        found |= {f"general_{state}": Request(general.NAME, (("state", state),)) for state in STATES}
    return found


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """Fingerprints of everything outside the configuration that scoring depends on.

    Listed refusals and retain reference by content; judges by their local files; the code of all metrics, and of the
    suites, which judge answers.
    """
    from unierase_cli.metrics.catalog import metric_code
    from unierase_cli.training.token.targets import load_targets

    experiment = study.experiment
    refusals = load_targets(experiment.token)
    found = {"refusals": hash_json(refusals), **judges_of(experiment).fingerprint()}
    found |= {**metric_code(), **code_of("suite", SUITES, *experiment.eval.general.suites)}
    found |= texts_fingerprint(experiment.benchmark)
    found |= of_names(study, refusals)
    if experiment.eval.retain_reference is not None:
        found |= of_reference(experiment.eval.retain_reference)
    return found


def of_names(study: Study, refusals: Sequence[str]) -> dict[str, str]:
    """Fingerprint of the names in the benchmark's facts; empty if no refusal contains one."""
    names = _names(study, refusals)
    return {NAMES: hash_json(names)} if names else {}


def of_reference(named: str) -> dict[str, str]:
    """Fingerprints of a retain reference. Raises UserError if it is missing."""
    path = check_reference(named)
    holdout = path.parent / HOLDOUT
    return {"retain_reference": hash_file(path), **({"retain_holdout": hash_file(holdout)} if holdout.exists() else {})}


def run(context: StageContext) -> dict[str, Any]:
    """Write ``metrics.json`` (see ``metrics.scores``); the summary has the rows of the table."""
    scores = measure(context)
    write_json(context.directory / METRICS, scores.to_json())
    return {"rows": scores.table(), "warnings": scores.warnings}


def measure(context: StageContext, names: Collection[str] | None = None) -> Scores:
    """The content of ``metrics.json``, from the inputs' files; of all metrics, or only those in ``names``."""
    from unierase_cli.metrics.compare import came_back, compare, unchanged
    from unierase_cli.metrics.leak import left_out

    with context.reporter.phase("score"):
        judges = judges_of(context.experiment)
        base, edited = (evidence_of(context, state, judges) for state in STATES)
        scores = compare(base, edited, names)
        if hides_texts(context.experiment.benchmark):
            scores.examples = []
        idle = changes_nothing(context.experiment.method)
        told = [None if idle else unchanged(base, edited), other_tokens(edited), left_out(edited)]
        told += [_asked_otherwise(context.experiment), came_back(scores)]
        warnings = [text for text in told if text]
    for text in warnings:
        context.reporter.warn(text)
    # The user was warned of these when the model was asked.
    cut = (told_of_state(evidence.state, _plain_stops(evidence)) for evidence in (base, edited))
    scores.warnings = [*warnings, *(text for text in cut if text)]
    return scores


def _plain_stops(evidence: Evidence) -> list[str]:
    return [o.stop for split in evidence.splits() for o in evidence.rows(split)]


def _asked_otherwise(experiment: Experiment) -> str | None:
    """A warning if RETURN's questions were asked without RETURN's own instruction."""
    if experiment.benchmark.name != "return" or experiment.model.instruction is not None:
        return None
    return "RETURN asks for short answers with its own instruction; for its published scores choose protocol=return"


def evidence_of(context: StageContext, state: str, judges: Judges | None = None) -> Evidence:
    """All observations of a model state and the other inputs of its metrics; raises UserError for a damaged file."""
    from unierase_cli.metrics.base import Evidence
    from unierase_cli.pipeline.observation_files import read_state
    from unierase_cli.training.token.targets import load_targets

    wanted = context.experiment.eval
    refusals = load_targets(context.experiment.token)
    plan, observations = read_state(context.inputs[state].whole)
    forget = observations.get(("forget", "plain"), [])
    return Evidence(
        plan.state,
        observations,
        refusals=refusals,
        special_ids=plan.special_ids,
        reference=load_reference(wanted.retain_reference, forget),
        passes=_passes(context, state),
        judges=judges or judges_of(context.experiment),
        names=_names(context.study, refusals),
        benchmark=context.experiment.benchmark.gold or context.experiment.benchmark.name,
    )


def judges_of(experiment: Experiment) -> Judges:
    """The configured judges, not yet loaded."""
    from unierase_cli.metrics.judges.judges import Judges

    wanted = experiment.eval
    return Judges(wanted.encoder, wanted.nli, wanted.gibberish, wanted.refusal_encoder, wanted.judge_seconds)


def _names(study: Study, refusals: Sequence[str]) -> dict[str, str]:
    """Fact id -> the name that it is about, if a refusal contains names; else empty, without reading the benchmark."""
    if not any(NAME_SLOT in text for text in refusals):
        return {}
    facts = [fact for rows in study.benchmark.splits.values() for fact in rows]
    return {fact.id: name for fact in facts if (name := name_of(fact)) is not None}


def _passes(context: StageContext, state: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of the further passes over a model state by name."""
    from unierase_cli.store.jsonl import read_jsonl

    made = context.inputs.get(f"probe_{state}")
    found = {path.stem: read_jsonl(path) for path in made.files("*.jsonl")} if made else {}
    asked = context.inputs.get(f"general_{state}")
    return found | (general.read_general(asked.whole, context.experiment) if asked else {})
