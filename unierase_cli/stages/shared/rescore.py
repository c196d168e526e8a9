"""Scores finished runs again from their recorded answers, without a model and without the benchmark's files.

Nothing is written unless an exchange file is requested. The configuration is the recorded one, except for the keys in
``CHANGES``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.metrics.scores import Scores
from unierase_cli.pipeline.recorded_files import benchmark_places, changed, same_file
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.results.runs import find_runs
from unierase_cli.stages.score import NAMES, STATES, evidence_of, measure, of_names, of_reference
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.json_text import write_json

# Keys that scoring reads and that need no model.
REFERENCE, TARGETS = "eval.retain_reference", "token.targets"
CHANGES = (
    REFERENCE,
    "eval.encoder",
    "eval.refusal_encoder",
    "eval.nli",
    "eval.gibberish",
    "eval.judge_seconds",
    TARGETS,
)

# Scoring again has no output folder.
NOWHERE = Path(os.devnull)


@dataclass(frozen=True)
class Rescored:
    """A run and its newly computed scores."""

    score: Artefact
    scores: Scores


def rescore(
    store: Store,
    words: Sequence[str],
    *,
    reporter: Reporter,
    changes: Mapping[str, Any] | None = None,
    names: Collection[str] | None = None,
) -> list[Rescored]:
    """The runs that the words mean (see ``results.runs.find_runs``), each scored by all metrics or only by ``names``.

    ``changes``: keys of CHANGES with their new values. Raises UserError if a run's observations are gone or damaged.
    """
    if names is not None:
        check_names(names)
    found = []
    for run in find_runs(store, words):
        context = recorded(store, run.score, reporter, changes or {})
        found.append(Rescored(run.score, measure(context, names)))
    return found


def check_names(names: Collection[str]) -> None:
    """Raise UserError for an unknown metric, with the nearest known ones."""
    from unierase_cli.metrics.catalog import all_metrics

    known = [metric.NAME for metric in all_metrics()]
    if not names:
        raise UserError("--metrics names no metric", f"choose from: {', '.join(known)}")
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            raise UserError(
                f"there is no metric {name}", " or ".join(near) if near else f"choose from: {', '.join(known)}"
            )


def recorded(store: Store, score: Artefact, reporter: Reporter, changes: Mapping[str, Any]) -> StageContext:
    """The context that stage score had when it made this artefact, with the changes but without an output folder.

    Raises UserError if a file that scoring reads is gone or another one, and the changes do not name it.
    """
    experiment = changed(_with_its_files(score, Experiment.from_json(score.config), reporter, changes), changes)
    inputs = {}
    for name, record in score.manifest.get("inputs", {}).items():
        artefact = store.input_of(score, name)
        if artefact is None:
            what = f"the recorded answers of its {name} model are gone" if name in STATES else f"its {name} is gone"
            raise UserError(
                f"{score.full_name} cannot be scored: {what} ({record['path']})",
                "`unierase eval` with that run's words asks the model again",
            )
        artefact.check()
        inputs[name] = artefact
    if lacking := [state for state in STATES if state not in inputs]:
        raise UserError(
            f"{score.full_name} cannot be scored: it does not record the answers of its {lacking[0]} model", "make it again"
        )
    return StageContext(study_of(experiment), NOWHERE, inputs, reporter)


def _with_its_files(
    score: Artefact, experiment: Experiment, reporter: Reporter, changes: Mapping[str, Any]
) -> Experiment:
    """The experiment with the retain reference and the refusals that the artefact was made with, as far as they are not changed."""
    from unierase_cli.training.token.targets import NAMED, load_targets

    def refusals(path: str) -> dict[str, str]:
        return {"refusals": hash_json(load_targets(replace(experiment.token, targets=path)))}

    reference, targets = experiment.eval.retain_reference, experiment.token.targets
    found = {}
    if reference is not None and REFERENCE not in changes:
        found[REFERENCE] = same_file(score, REFERENCE, reference, of_reference, reporter)
    if targets not in NAMED and TARGETS not in changes:
        assert targets is not None
        found[TARGETS] = same_file(score, TARGETS, targets, refusals, reporter)
    experiment = changed(experiment, found)
    names = score.manifest.get("fingerprints", {}).get(NAMES)
    if names is None or TARGETS in changes:
        return experiment
    for place in benchmark_places(score, experiment):
        with suppress(UserError):
            if of_names(study_of(place), load_targets(place.token)).get(NAMES) == names:
                return place
    return experiment


def write_open_unlearning(
    store: Store,
    word: str,
    folder: Path,
    *,
    state: str,
    reporter: Reporter,
    changes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a run's ``TOFU_EVAL.json`` and ``TOFU_SUMMARY.json`` to the folder; returns their content, and what is missing and why.

    Raises UserError if the word means several runs, or if the files exist.
    """
    from unierase_cli.interchange.open_unlearning import EVAL, SUMMARY, written

    runs = find_runs(store, [word])
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs[:5])
        raise UserError(f"{word} means several runs: {names}", "--open-unlearning takes one run: give one of these names")
    there = [name for name in (EVAL, SUMMARY) if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{folder} already has {' and '.join(there)}", "name another folder, or add --force")
    context = recorded(store, runs[0].score, reporter, changes or {})
    made = written(evidence_of(context, state))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / EVAL, made.evaluation())
        write_json(folder / SUMMARY, made.summary())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}", "choose another folder") from error
    return {
        "run": runs[0].name,
        "state": state,
        "files": [str(folder / name) for name in (EVAL, SUMMARY)],
        "metrics": sorted(made.metrics),
        "summary": made.summary(),
        "left_out": made.left_out,
        "notes": made.notes,
    }
