"""Splits that ``unierase prepare`` made from what a model knows: a folder with a file per role and the model's identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unierase_cli.benchmarks.parts.assemble import in_columns
from unierase_cli.benchmarks.parts.built_for import read_built_for, write_built_for
from unierase_cli.benchmarks.parts.known_facts import Shared
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.benchmarks.parts.sources import folder_source
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, BuiltFor, Fact, UserError
from unierase_cli.store.jsonl import write_jsonl

FORGET, PROTECTED, NEIGHBOURS, NEVER_SEEN = "forget", "protected", "neighbours", "never_seen"
# What the model was asked and does not know; folders of older versions have no such file.
NEVER_KNOWN = "never_known"


def prepared(config: BenchmarkConfig, folder: str) -> Benchmark:
    """The benchmark of a prepared folder. Raises UserError for a missing file and for malformed rows."""
    source = folder_source(folder)
    if not (Path(folder) / f"{FORGET}.jsonl").exists():
        raise UserError(
            f"benchmark.data_dir={folder} is not a folder that unierase prepare made", "type unierase prepare model=... to make one"
        )

    def facts(name: str) -> list[Fact]:
        rows = source(name, optional=name == NEVER_KNOWN) or []
        return [fact_from_row(row, where, f"{name}-{number:04d}") for number, (where, row) in enumerate(rows, start=1)]

    forget, protect, near, unseen = (facts(name) for name in (FORGET, PROTECTED, NEIGHBOURS, NEVER_SEEN))
    benchmark = in_columns(
        config,
        forget=forget,
        protect=protect,
        near=near,
        unseen=unseen,
        training=[*forget, *protect, *near, *unseen],
        built_for=read_built_for(Path(folder)),
    )
    return replace(benchmark, never_known=tuple(facts(NEVER_KNOWN)))


def has_never_known(config: BenchmarkConfig) -> bool:
    """Whether the folder of a prepared benchmark says what its model does not know."""
    return config.data_dir is not None and (Path(config.data_dir) / f"{NEVER_KNOWN}.jsonl").is_file()


def write_prepared(
    folder: Path,
    shared: Shared,
    rows: Mapping[str, Mapping[str, Any]],
    never_known: Sequence[Mapping[str, Any]],
    built_for: BuiltFor,
) -> None:
    """Write what ``prepared`` reads; ``rows``: fact id -> the row to write; ``never_known``: rows that the model got wrong."""
    roles: dict[str, Sequence[Fact]] = {
        FORGET: shared.forget, PROTECTED: shared.protect, NEIGHBOURS: shared.near, NEVER_SEEN: shared.unseen,
    }  # fmt: skip
    for name, facts in roles.items():
        write_jsonl(folder / f"{name}.jsonl", [rows[fact.id] for fact in facts])
    write_jsonl(folder / f"{NEVER_KNOWN}.jsonl", never_known)
    write_built_for(folder, built_for)
