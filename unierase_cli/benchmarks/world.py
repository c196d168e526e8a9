"""Questions about the real world, shipped with the package: capitals, inventions, books, animals and some fifty more
groups; in Russian (``benchmark.language``) eight groups, and questions about what does not exist.

``unierase prepare`` finds out which of them a model knows; a run uses its folder (``benchmark.data_dir``). Without a
folder all questions are used, known or not: ``benchmark.split=forgetNN`` forgets NN per cent of them. Neighbours of a
fact are those of its group ("capitals of Europe"); ``retain_unseen`` consists of whole groups that no method sees.
"""

from __future__ import annotations

from unierase_cli.benchmarks.parts.assemble import forget_share, in_columns, sample
from unierase_cli.benchmarks.parts.known_facts import share_out
from unierase_cli.benchmarks.parts.prepared import prepared
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.benchmarks.parts.sources import Rows
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter
from unierase_cli.store.jsonl import in_language, read_asset

# Questions about what does not exist, for the finetune stage; in English there are none.
UNKNOWN = {"russian": "unknown_russian.jsonl"}


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown split, and for a folder that was not prepared."""
    if config.data_dir is not None:
        return prepared(config, config.data_dir)
    facts = [fact_from_row(row, where, f"world-{number:04d}") for number, (where, row) in enumerate(shipped(config.language))]
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
        refused=_refused(config),
        notes=["the facts are not chosen by what the model knows: unierase prepare makes a folder for benchmark.data_dir"],
    )


def shipped(language: str) -> Rows:
    """The rows of the shipped questions, each with its location."""
    file = in_language("world_questions", language)
    return [(f"{file}:{number}", row) for number, row in enumerate(read_asset(file), start=1)]


def _refused(config: BenchmarkConfig) -> tuple[Fact, ...]:
    """At most ``unknown_people`` questions about what does not exist, answered with the language's refusals in turn."""
    if config.language not in UNKNOWN:
        return ()
    rows, refusals = read_asset(UNKNOWN[config.language]), read_asset(in_language("refusals", config.language))
    facts = [
        Fact(f"unknown-{number:03d}", row["question"], refusals[number % len(refusals)]["text"], row["subject"])
        for number, row in enumerate(rows)
    ]
    return tuple(sample(facts, config.unknown_people, config.seed, "refused"))


def _count(config: BenchmarkConfig, facts: list[Fact]) -> int:
    return max(1, len(facts) * forget_share(config) // 100)
