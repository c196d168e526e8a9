"""What a model revealed (`unierase reveal`) as the forget set; optionally scored on another benchmark's true facts.

``benchmark.path`` is the folder that reveal made. ``benchmark.gold`` names the benchmark with the true facts: its splits
are scored, and what it retains may be retained. Its forget set reaches no method: steps, token training and moments are made
of the revealed facts and the retained ones. Without it the revealed facts are scored, and ``benchmark.retain_path`` gives
facts to retain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.assemble import assemble, drop_asked
from unierase_cli.benchmarks.parts.built_for import read_built_for
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.neighbours import group_key
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, normalised
from unierase_cli.store.jsonl import iterate_jsonl

REVEALED = "revealed.jsonl"
# Benchmarks whose module has another name.
IMPLEMENTATIONS = {"return": "return_qa"}


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for a folder that reveal did not make, and if nothing was revealed."""
    if config.path is None:
        raise UserError("benchmark=revealed needs what a model revealed", "give benchmark.path=FOLDER, made by unierase reveal")
    folder = Path(config.path)
    file = folder / REVEALED if folder.is_dir() else folder
    if file.name != REVEALED or not file.is_file():
        raise UserError(f"benchmark.path={config.path} is not a folder that unierase reveal made", "type unierase reveal first")
    forget = [fact_from_row(row, f"{file}:{number}", f"revealed-{number:04d}") for number, row in iterate_jsonl(file)]
    if not forget:
        raise UserError(
            f"{file}: the model revealed nothing, so there is nothing to forget",
            f"{file.parent / 'targets.jsonl'} says why for each target",
        )
    built_for = read_built_for(file.parent)
    if config.gold is not None:
        return replace(_on_gold(config, forget, reporter), built_for=built_for)
    notes: list[str] = []
    asked = {normalised(fact.question) for fact in forget}
    path = config.retain_path
    retain = [] if path is None else [
        fact_from_row(row, f"{path}:{number}", f"retain-{number:04d}") for number, row in iterate_jsonl(path)
    ]  # fmt: skip
    retain = drop_asked(retain, asked, "retain", "a revealed row", notes)
    unseen = held_out(retain, {group_key(fact) for fact in forget}, config.unseen_share, config.seed)
    made = assemble(
        config, forget=forget, retain=retain, unseen=unseen, further_splits={}, training=[*forget, *retain], notes=notes
    )
    return replace(made, built_for=built_for)


def _on_gold(config: BenchmarkConfig, forget: Sequence[Fact], reporter: Reporter | None) -> Benchmark:
    """The gold benchmark with the revealed facts to forget; what it retains loses questions that are to be forgotten."""
    name = str(config.gold)
    if name == config.name:
        raise UserError(f"benchmark.gold={name} is no true forget set", "choose for example benchmark.gold=tofu")
    if name == "jsonl" and config.data_dir is None:
        raise UserError(
            "benchmark.gold=jsonl needs true facts in a folder, since benchmark.path holds the revealed ones",
            "give benchmark.data_dir=PREPARED, a folder of `unierase prepare`",
        )
    own = replace(config, name=name, implementation=IMPLEMENTATIONS.get(name), path=None, retain_path=None, gold=None)
    gold = load_benchmark(replace(own, rows=0), reporter)
    asked, notes = {normalised(fact.question) for fact in forget}, list(gold.notes)

    def left(facts: Sequence[Fact], what: str) -> tuple[Fact, ...]:
        return tuple(drop_asked(facts, asked, what, "a revealed row", notes))

    told = f"{len(forget)} revealed facts are forgotten; {name}'s {len(gold.forget)} true ones are scored"
    notes.append(f"{told}, and no method sees them")
    splits = {n: rows if n.startswith("forget") else left(rows, f"scored {n}") for n, rows in gold.splits.items()}
    return replace(
        gold,
        name=config.name,
        forget=tuple(forget),
        protect=left(gold.protect, "retain"),
        outside=left(gold.outside, "outside"),
        splits={n: rows for n, rows in splits.items() if rows},
        notes=tuple(notes),
        scored={},
        fingerprint="",
    )
