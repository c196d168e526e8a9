"""The questions for finding out what a model knows."""

from __future__ import annotations

from unierase_cli.benchmarks.parts.askable import as_rows
from unierase_cli.benchmarks.parts.sources import Rows
from unierase_cli.benchmarks.world import shipped
from unierase_cli.contracts import Fact, UserError, normalised
from unierase_cli.pipeline.study import Study
from unierase_cli.store.jsonl import iterate_jsonl


def question_rows(study: Study) -> Rows:
    """The shipped questions, those in a user's files, or everything that another benchmark scores or protects."""
    config = study.experiment.benchmark
    if config.name == "world":
        return shipped(config.language)
    if config.name == "jsonl":
        if config.path is None:
            raise UserError("benchmark=jsonl needs a file of questions", "type benchmark.path=my.jsonl, or benchmark=world")
        paths = [path for path in (config.path, config.retain_path) if path is not None]
        return [(f"{path}:{number}", row) for path in paths for number, row in iterate_jsonl(path)]
    benchmark = study.benchmark
    everything = [*benchmark.forget, *benchmark.protect, *(fact for facts in benchmark.splits.values() for fact in facts)]
    once: dict[str, Fact] = {}
    for fact in everything:
        scored = benchmark.scored.get(fact.id, fact)
        once.setdefault(normalised(scored.question), scored)
    return as_rows(list(once.values()))
