"""Stage ``reveal``: a forget set that the model itself tells, from names or topics alone.

After Xie et al. 2025 (arXiv 2509.14624), written from what is public of it. The stage reads the model, the targets and
optional text about others. It does not use the benchmark, so no forget file can reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unierase_cli.benchmarks.parts.built_for import write_built_for
from unierase_cli.benchmarks.revealed import REVEALED
from unierase_cli.config.counted import counted
from unierase_cli.contracts import Reporter
from unierase_cli.pipeline.model_states import load_base, model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.revealing.reveal import instruction_scores, mean_relevance, reveal, rows_of
from unierase_cli.revealing.told import in_words
from unierase_cli.stages.shared.model_identity import model_identity
from unierase_cli.stages.shared.reveal_inputs import files_of, inputs_fingerprints, instructions_of, targets_of
from unierase_cli.stages.shared.reveal_search import searched
from unierase_cli.store.jsonl import write_jsonl

NAME = "reveal"
VERSION = 2
ANSWERS, TARGETS, INSTRUCTIONS, SEARCH = "answers.jsonl", "targets.jsonl", "instructions.jsonl", "search.jsonl"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the model is run and asked."""
    experiment = study.experiment
    return {
        "reveal": counted(experiment.reveal),
        "model": model_settings(experiment),
        "stop": stop_texts(experiment),
        "seed": experiment.run.seed,
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return model_needs(study.experiment)


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The model's files, the targets, the text about others and the shipped instructions."""
    return {**model_fingerprints(study.experiment), **inputs_fingerprints(study.experiment.reveal)}


def check(study: Study) -> None:
    """Read targets and retain text; raises UserError for what cannot be used."""
    instructions_of(study.experiment.reveal, targets_of(study.experiment.reveal), study.experiment.run.seed)


def run(context: StageContext) -> dict[str, Any]:
    """Search for instructions if asked to, ask about every target; write rows, evidence and the instructions' scores."""
    from unierase_cli.revealing.asking import asker

    experiment, reporter, directory = context.experiment, context.reporter, context.directory
    config, seed = experiment.reveal, experiment.run.seed
    targets = targets_of(config)
    instructions = instructions_of(config, targets, seed)
    loaded = load_base(experiment, context.inputs, reporter)
    ask = asker(loaded, config.temperature, experiment.eval.batch_size)
    if config.search != "none":
        with reporter.phase("search"):
            instructions = searched(loaded, targets, instructions, ask, config, seed, reporter, directory / SEARCH)
    with reporter.phase("reveal"):
        told = reveal(targets, instructions, ask, config, seed=seed, reporter=reporter, file=directory / ANSWERS)
    rows = rows_of(told, config)
    evidence = [one.evidence(config.per_target) for one in told]
    every = [one for kind in instructions.values() for one in kind]
    write_jsonl(directory / REVEALED, rows)
    write_jsonl(directory / TARGETS, evidence)
    write_jsonl(directory / INSTRUCTIONS, instruction_scores(told, every, config.diversity))
    write_built_for(directory, model_identity(experiment.model))
    _report(reporter, evidence, directory)
    return {
        "targets": len(told),
        "revealed": sum(one["rows"] > 0 for one in evidence),
        "rows": len(rows),
        "relevance": round(mean_relevance(told), 4),
        "instructions": len(every),
        "files read": [*([experiment.model.path] if experiment.model.path else []), *sorted(files_of(config))],
        "about": {one["name"]: in_words(one) for one in evidence},
    }


def _report(reporter: Reporter, evidence: Sequence[dict[str, Any]], directory: Path) -> None:
    nothing = [one for one in evidence if not one["rows"]]
    for one in nothing:
        reporter.warn(f"{one['name']}: {in_words(one)}")
    if len(nothing) == len(evidence):
        reporter.warn("the model reveals nothing about any target: there are no rows to unlearn")
    else:
        reporter.note(f"to unlearn it: benchmark=revealed benchmark.path={directory}")
