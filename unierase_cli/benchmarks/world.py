"""Questions about the real world, shipped with the package: capitals, inventions, books, animals and some fifty more
groups.

``unierase prepare`` finds out which of them a model knows; a run uses its folder (``benchmark.data_dir``). Without a
folder all questions are used, known or not: ``benchmark.split=forgetNN`` forgets NN per cent of them. Neighbours of a
fact are those of its group ("capitals of Europe"); ``retain_unseen`` consists of whole groups that no method sees.
"""

from __future__ import annotations

from unierase_cli.benchmarks.parts.assemble import forget_share, in_columns
from unierase_cli.benchmarks.parts.known_facts import share_out
from unierase_cli.benchmarks.parts.prepared import prepared
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.benchmarks.parts.sources import Rows
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter
from unierase_cli.store.jsonl import read_asset

QUESTIONS = "world_questions.jsonl"


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown split, and for a folder that was not prepared."""
    if config.data_dir is not None:
        return prepared(config, config.data_dir)
    facts = [fact_from_row(row, where, f"world-{number:04d}") for number, (where, row) in enumerate(shipped())]
    shared = share_out(
        facts, count=_count(config, facts), unseen_share=config.unseen_share, near_groups=config.near_authors, seed=config.seed
    )
    return in_columns(
        config,
        forget=shared.forget,
        protect=shared.protect,
        near=shared.near,
        unseen=shared.unseen,
        training=facts,
        notes=["the facts are not chosen by what the model knows: unierase prepare makes a folder for benchmark.data_dir"],
    )


def shipped() -> Rows:
    """The rows of the shipped questions, each with its location."""
    return [(f"{QUESTIONS}:{number}", row) for number, row in enumerate(read_asset(QUESTIONS), start=1)]


def _count(config: BenchmarkConfig, facts: list[Fact]) -> int:
    return max(1, len(facts) * forget_share(config) // 100)
