"""Facts that the model forgot in an earlier run: asked again, and neither retained nor scored as known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, normalised
from unierase_cli.store.jsonl import iterate_jsonl

SPLIT = "forgotten_before"


def with_forgotten(benchmark: Benchmark, config: BenchmarkConfig, hashes: Sequence[str]) -> Benchmark:
    """The benchmark with a split of the facts that the model forgot before.

    ``hashes`` identify them (``Fact.content_hash``); their text is looked up in the benchmark and in
    ``config.forgotten_path``. Without hashes every row of that file counts. A note says how many were not found. Raises
    UserError for a malformed row of the file.
    """
    given = _rows_of(config.forgotten_path)
    if not hashes and not given:
        return benchmark
    notes = list(benchmark.notes)
    others = (*benchmark.training, *benchmark.protect, *benchmark.outside, *(f for rows in benchmark.splits.values() for f in rows))
    wanted = set(hashes) or {fact.content_hash for fact in given}
    known = {fact.content_hash: fact for fact in (*given, *others) if fact.content_hash in wanted}
    strange = sum(fact.content_hash not in wanted for fact in given)
    if strange:
        notes.append(f"{strange} of {len(given)} rows of {config.forgotten_path} were not forgotten before, and are not asked")
    if len(known) < len(wanted):
        notes.append(
            f"the model forgot {len(wanted)} facts in earlier runs, of which {len(known)} are known here: give their file with "
            "benchmark.forgotten_path=FILE to see whether they stay forgotten"
        )
    again = {normalised(fact.question) for fact in benchmark.forget}
    facts = _with_ids([fact for fact in known.values() if normalised(fact.question) not in again])
    if not facts:
        return replace(benchmark, notes=tuple(notes))
    asked = {normalised(fact.question) for fact in facts}

    def left(rows: Sequence[Fact]) -> tuple[Fact, ...]:
        return tuple(fact for fact in rows if normalised(fact.question) not in asked)

    splits = {name: rows if name.startswith("forget") else left(rows) for name, rows in benchmark.splits.items()}
    notes.append(f"{len(facts)} facts that the model forgot before are asked again as {SPLIT}, and not retained")
    return replace(
        benchmark,
        protect=left(benchmark.protect),
        outside=left(benchmark.outside),
        splits={**{name: rows for name, rows in splits.items() if rows}, SPLIT: facts},
        forgotten=facts,
        notes=tuple(notes),
    )


def _rows_of(path: str | None) -> list[Fact]:
    if path is None:
        return []
    return [fact_from_row(row, f"{path}:{number}", f"forgotten-{number:04d}") for number, row in iterate_jsonl(path)]


def _with_ids(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Make ids unique, since ids of different files may clash."""
    taken: set[str] = set()
    found = []
    for place, fact in enumerate(facts):
        fact = replace(fact, id=f"{SPLIT}-{place:04d}") if fact.id in taken else fact
        taken.add(fact.id)
        found.append(fact)
    return tuple(found)
