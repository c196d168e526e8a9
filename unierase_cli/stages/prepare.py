"""Stage ``prepare``: finds out which facts a model knows and chooses what it is to forget and to keep.

For any file of questions the recorded answers of stage ``ask`` are used (``shared.prepare_facts``), so that another
seed or number of facts needs no new answers. RETURN, whose unit is a person, is asked here as its authors do
(``shared.prepare_people``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.pipeline.model_states import model_fingerprints, model_needs, model_settings, stop_texts
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.stages.shared.model_identity import model_identity
from unierase_cli.stages.shared.prepare_facts import prepare_facts
from unierase_cli.stages.shared.prepare_people import HUB, as_return_asks, prepare_people
from unierase_cli.store.hashing import hash_file

NAME = "prepare"
VERSION = 2
PEOPLE = "return"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    """How the splits are drawn; for RETURN also how the model is run, and the judge."""
    experiment = study.experiment
    benchmark = experiment.benchmark
    if benchmark.name == PEOPLE:
        asking = as_return_asks(experiment)
        return {
            "model": model_settings(asking),
            "nli": experiment.eval.nli,
            "seed": benchmark.seed,
            "stop": stop_texts(asking),
            "hub": None if benchmark.path else [benchmark.hub or HUB, benchmark.revision],
        }
    wanted = experiment.prepare
    return {
        "known": [wanted.min_right, wanted.forget, wanted.groups],
        "splits": [benchmark.seed, benchmark.unseen_share, benchmark.near_authors],
    }


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    """The answers; for RETURN the model."""
    return model_needs(study.experiment) if study.experiment.benchmark.name == PEOPLE else {"ask": Request("ask")}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """For RETURN the model's files, and RETURN.jsonl if it is a local file; otherwise the answers' fingerprints cover them."""
    experiment = study.experiment
    if experiment.benchmark.name != PEOPLE:
        return {}
    path = experiment.benchmark.path
    if path is None:
        return model_fingerprints(experiment)
    if not Path(path).is_file():
        raise UserError(f"benchmark.path={path} is not a file", "give RETURN.jsonl, or benchmark.path=null for the hub")
    return {**model_fingerprints(experiment), "people": hash_file(Path(path))}


def run(context: StageContext) -> dict[str, Any]:
    """Find out what the model knows; write the splits and the model that they are for."""
    built_for = model_identity(context.experiment.model)
    if context.experiment.benchmark.name == PEOPLE:
        return prepare_people(context, built_for)
    return prepare_facts(context, built_for)
