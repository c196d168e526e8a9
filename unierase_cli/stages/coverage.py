"""Stage ``coverage``: compares what a model revealed with the true forget set, which only this stage opens."""

from __future__ import annotations

from typing import Any

from unierase_cli.benchmarks.revealed import REVEALED
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.revealing.against_gold import against_gold
from unierase_cli.stages.shared.reveal_inputs import targets_of
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import read_jsonl

NAME = "coverage"
VERSION = 2
COVERAGE = "coverage.json"


def reads(study: Study, options: dict[str, str]) -> dict[str, Any]:
    return {}


def needs(study: Study, options: dict[str, str]) -> dict[str, Request]:
    return {"reveal": Request("reveal")}


def fingerprints(study: Study, options: dict[str, str]) -> dict[str, str]:
    """The true facts. Raises UserError if they are the revealed ones themselves."""
    if study.experiment.benchmark.name == "revealed":
        raise UserError(
            "benchmark=revealed is what the model revealed, and not the true forget set", "choose benchmark=tofu, jsonl or another"
        )
    return {"benchmark": study.benchmark.fingerprint}


def run(context: StageContext) -> dict[str, Any]:
    """Compare; ``coverage.json`` also has the ids of the true facts that were missed."""
    rows = read_jsonl(context.inputs["reveal"].file(REVEALED))
    names = [target.name for target in targets_of(context.experiment.reveal)]
    found = against_gold(rows, context.study.benchmark.splits["forget"], names)
    write_json(context.directory / COVERAGE, found)
    return {name: value for name, value in found.items() if name not in ("by_target", "missed")}
