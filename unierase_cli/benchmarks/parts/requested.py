"""Replaces a benchmark's forget set by facts that were named one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from unierase_cli.benchmarks.parts.assemble import assemble, drop_asked
from unierase_cli.benchmarks.parts.neighbours import by_group, group_key
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, UserError, normalised

OWN = ("forget", "retain_protected", "retain_near", "retain_unseen")
UNSEEN = "retain_unseen"


def with_forget(benchmark: Benchmark, config: BenchmarkConfig, ids: Sequence[str]) -> Benchmark:
    """The benchmark with the facts of these ids as its forget set.

    What is protected, near and outside is chosen again around them, or stays as published. Facts that no method sees
    stay unseen, unless nothing else is left to protect: then half of them are protected. Raises UserError for an
    unknown id, and for one that is scored as something to keep.
    """
    ids = list(dict.fromkeys(ids))
    unseen = benchmark.splits.get(UNSEEN, ())
    further = {name: rows for name, rows in benchmark.splits.items() if name not in OWN}
    kept = {fact.id: name for name, rows in {UNSEEN: unseen, **further}.items() for fact in rows}
    learned = {f.id: f for f in (*benchmark.training, *benchmark.protect, *benchmark.forget)}
    near = {fact.id: fact for fact in benchmark.splits.get("retain_near", ())}
    for name in ids:
        if name in kept:
            raise UserError(f"{name} is to be forgotten, but is scored as {kept[name]}", "leave it out of the requests")
        if name not in learned and name not in near:
            close = get_close_matches(name, [*learned, *near], n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"ids look like {next(iter(learned))}"
            raise UserError(f"benchmark={benchmark.name} has no fact {name!r}", hint)
    forget = [learned.get(name) or near[name] for name in ids]
    if benchmark.published:
        return _as_published(benchmark, forget)
    chosen, asked = set(ids), {normalised(fact.question) for fact in forget}
    pool = {**{f.id: f for f in benchmark.forget}, **{f.id: f for f in benchmark.protect}, **near}
    places = {fact.id: place for place, fact in enumerate(benchmark.training)}
    retain = sorted((f for f in pool.values() if f.id not in chosen), key=lambda f: places.get(f.id, len(places)))
    notes = list(benchmark.notes)
    retain = drop_asked(retain, asked, "retain", "a forget row", notes)
    left = drop_asked(unseen, asked, "scored retain", "a forget row", notes)
    if not retain and left:
        retain, left = _shared_out(left)
        told = f"{len(retain)} rows of {UNSEEN} may be protected instead, {len(left)} stay unseen"
        notes.append(f"everything else is to be forgotten: {told}")
    made = assemble(
        config,
        forget=forget,
        retain=retain,
        unseen=left,
        further_splits=further,
        training=benchmark.training,
        refused=benchmark.refused,
        forgotten_later={fact.id for fact in benchmark.forget},
        notes=notes,
    )
    return replace(made, splits={**made.splits, "forget": _scored(forget, benchmark)}, built_for=benchmark.built_for)


def as_scored(benchmark: Benchmark) -> dict[str, Fact]:
    """Id -> the fact as a split scores it; the forget split takes precedence."""
    splits = sorted(benchmark.splits.items(), key=lambda split: split[0] == "forget")
    return {fact.id: fact for _, rows in splits for fact in rows}


def _as_published(benchmark: Benchmark, forget: Sequence[Fact]) -> Benchmark:
    """Protected and scored facts as published, without those to forget.

    Further forget splits keep only the people who are forgotten.
    """
    chosen, asked = {fact.id for fact in forget}, {normalised(fact.question) for fact in forget}
    groups, notes = {group_key(fact) for fact in forget}, list(benchmark.notes)

    def left(facts: Sequence[Fact], what: str) -> tuple[Fact, ...]:
        return tuple(drop_asked([fact for fact in facts if fact.id not in chosen], asked, what, "a forget row", notes))

    splits: dict[str, tuple[Fact, ...]] = {"forget": _scored(forget, benchmark)}
    for name, rows in benchmark.splits.items():
        if name.startswith("forget"):
            splits.setdefault(name, tuple(fact for fact in rows if group_key(fact) in groups))
        else:
            splits[name] = left(rows, f"scored {name}")
    return replace(
        benchmark,
        forget=tuple(forget),
        protect=left(benchmark.protect, "retain"),
        splits={name: rows for name, rows in splits.items() if rows},
        outside=tuple(fact for fact in benchmark.outside if fact.id not in chosen and normalised(fact.question) not in asked),
        notes=tuple(notes),
    )


def _shared_out(facts: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """Every second group of the facts (authors, if they have any), and the rest."""
    groups = by_group(facts)
    first = {key for place, key in enumerate(groups) if place % 2 == 0}
    return [f for f in facts if group_key(f) in first], [f for f in facts if group_key(f) not in first]


def _scored(forget: Sequence[Fact], benchmark: Benchmark) -> tuple[Fact, ...]:
    """The scored versions of the facts: a split may add to them, or have other answers than a method learns."""
    known = as_scored(benchmark)
    return tuple(known.get(fact.id, fact) for fact in forget)
