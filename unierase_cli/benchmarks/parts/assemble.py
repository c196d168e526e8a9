"""Turns a benchmark's facts into what a method may see and what is scored.

The three retain columns differ in what a method sees of them. ``unseen`` groups are held out whole: a method sees none
of their questions, scored or not. Of the groups nearest to the forgotten ones, every second question is protected and
the rest are scored as ``near``. Everything else may be protected, and a sample of it is scored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from unierase_cli.benchmarks.parts.neighbours import group_key, nearest_groups
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, BuiltFor, Fact, UserError, normalised, stable_hash

OUTSIDE_AT_LEAST = 200


def forget_share(config: BenchmarkConfig) -> int:
    """NN of ``benchmark.split=forgetNN``, in per cent of the facts. Raises UserError for another name, or more than half."""
    found = re.fullmatch(r"forget(\d\d)", config.split)
    share = int(found.group(1)) if found else 0
    if not 1 <= share <= 50:
        raise UserError(
            f"benchmark.split={config.split} is not a forget split of benchmark={config.name}",
            "choose forget01, forget05, forget10 or another forgetNN up to forget50",
        )
    return share


def assemble(
    config: BenchmarkConfig,
    *,
    forget: Sequence[Fact],
    retain: Sequence[Fact],
    unseen: Sequence[Fact],
    further_splits: Mapping[str, Sequence[Fact]],
    training: Sequence[Fact],
    refused: Sequence[Fact] = (),
    forgotten_later: Collection[str] = (),
    notes: Sequence[str] = (),
) -> Benchmark:
    """The benchmark without its fingerprint, which ``load_benchmark`` adds after the checks.

    ``retain``: facts that may be protected or scored as near; those of a group that also occurs in ``unseen`` are
    dropped. ``forgotten_later``: ids in a larger forget split, kept out of ``outside``.
    """
    notes = list(notes)
    held_out = {group_key(fact) for fact in unseen}
    retain = [fact for fact in retain if group_key(fact) not in held_out]
    near_keys = nearest_groups(forget, retain, config.near_authors) if retain and config.near_authors else []
    near_rows = [fact for key in sorted(near_keys) for fact in retain if group_key(fact) == key]
    near = near_rows[1::2]
    protect = _without_scored_questions(retain, near, unseen, notes)
    return in_columns(
        config,
        forget=forget,
        protect=protect,
        near=near,
        beside=[fact.id for fact in near_rows],
        unseen=unseen,
        further_splits=further_splits,
        training=training,
        refused=refused,
        forgotten_later=forgotten_later,
        notes=notes,
    )


def in_columns(
    config: BenchmarkConfig,
    *,
    forget: Sequence[Fact],
    protect: Sequence[Fact],
    near: Sequence[Fact],
    unseen: Sequence[Fact],
    training: Sequence[Fact],
    beside: Collection[str] = (),
    further_splits: Mapping[str, Sequence[Fact]] = MappingProxyType({}),
    refused: Sequence[Fact] = (),
    forgotten_later: Collection[str] = (),
    built_for: BuiltFor | None = None,
    notes: Sequence[str] = (),
) -> Benchmark:
    """A benchmark whose protected, near and unseen facts are already decided.

    ``beside``: ids of facts of neighbouring groups (by default, of the groups of ``near``), which ``protect_limit``
    drops last.
    """
    groups = {group_key(fact) for fact in near}
    protect = _limit(protect, set(beside) or {fact.id for fact in protect if group_key(fact) in groups}, config)
    protected = sample(protect, config.protected_scored, config.seed, "retain_protected")
    spare = {fact.id for fact in protected} | set(forgotten_later)
    splits = {
        "forget": forget,
        "retain_protected": protected,
        "retain_near": near,
        "retain_unseen": unseen,
        **further_splits,
    }
    return Benchmark(
        name=config.name,
        forget=tuple(forget),
        protect=tuple(protect),
        splits={name: tuple(rows) for name, rows in splits.items() if rows},
        fingerprint="",
        outside=_outside(protect, spare, len(forget), config),
        training=tuple(training),
        refused=tuple(refused),
        notes=tuple(notes),
        built_for=built_for,
    )


def as_published(
    config: BenchmarkConfig,
    *,
    forget: Sequence[Fact],
    protect: Sequence[Fact],
    forget_splits: Mapping[str, Sequence[Fact]],
    protected: Sequence[Fact],
    unseen: Sequence[Fact],
    built_for: BuiltFor | None = None,
    notes: Sequence[str] = (),
) -> Benchmark:
    """A benchmark whose authors define what is protected and what is scored; nothing else is held out.

    ``protected``: the scored versions of protected facts (``protected_scored`` of those left by ``protect_limit``).
    """
    protect = _limit(protect, set(), config)
    kept = {fact.id for fact in protect}
    protected = [fact for fact in protected if fact.id in kept]
    scored = sample(protected, config.protected_scored, config.seed, "retain_protected")
    splits = {**forget_splits, "retain_protected": scored, "retain_unseen": unseen}
    return Benchmark(
        name=config.name,
        forget=tuple(forget),
        protect=tuple(protect),
        splits={name: tuple(rows) for name, rows in splits.items() if rows},
        fingerprint="",
        outside=_outside(protect, {fact.id for fact in scored}, len(forget), config),
        notes=tuple(notes),
        built_for=built_for,
        published=True,
    )


def drop_asked(facts: Sequence[Fact], asked: Collection[str], what: str, whose: str, notes: list[str]) -> list[Fact]:
    """The facts whose wording (see ``normalised``) is not in ``asked``; a note says how many were dropped.

    ``what`` describes the facts, ``whose`` the rows that ask the same: "retain", "a forget row".
    """
    dropped = [fact for fact in facts if normalised(fact.question) in asked]
    if dropped:
        notes.append(
            f"{len(dropped)} {what} row(s) ask what {whose} asks and are left out, e.g. {dropped[0].question!r}"
        )
    return [fact for fact in facts if normalised(fact.question) not in asked]


def _outside(
    protect: Sequence[Fact], spare: Collection[str], forgotten: int, config: BenchmarkConfig
) -> tuple[Fact, ...]:
    free = [fact for fact in protect if fact.id not in spare]
    return tuple(sample(free, max(OUTSIDE_AT_LEAST, forgotten), config.seed, "outside"))


def sample(facts: Sequence[Fact], count: int, seed: int, purpose: str) -> list[Fact]:
    """``count`` facts (or all) drawn by a stable hash of (seed, purpose, id), in their original order."""
    drawn = sorted(facts, key=lambda fact: stable_hash(seed, purpose, fact.id))[:count]
    chosen = {fact.id for fact in drawn}
    return [fact for fact in facts if fact.id in chosen]


def _without_scored_questions(
    retain: Sequence[Fact], near: Sequence[Fact], unseen: Sequence[Fact], notes: list[str]
) -> list[Fact]:
    """Retain facts that may be protected: none that is scored as near or unseen, nor its wording."""
    scored = {fact.id for fact in near}
    wordings = {normalised(fact.question) for fact in (*near, *unseen)}
    protect = [fact for fact in retain if fact.id not in scored]
    repeats = [fact for fact in protect if normalised(fact.question) in wordings]
    if repeats:
        notes.append(
            f"{len(repeats)} retain row(s) ask what a scored retain row asks and are not protected, "
            f"e.g. {repeats[0].id}: {repeats[0].question!r}"
        )
    return [fact for fact in protect if normalised(fact.question) not in wordings]


def _limit(protect: Sequence[Fact], near_ids: Collection[str], config: BenchmarkConfig) -> list[Fact]:
    """At most ``protect_limit`` facts; those of neighbouring groups are kept first, since they need protection most."""
    if not config.protect_limit or len(protect) <= config.protect_limit:
        return list(protect)
    near = sample([f for f in protect if f.id in near_ids], config.protect_limit, config.seed, "protect near")
    others = [fact for fact in protect if fact.id not in near_ids]
    rest = sample(others, config.protect_limit - len(near), config.seed, "protect")
    kept = {fact.id for fact in (*near, *rest)}
    return [fact for fact in protect if fact.id in kept]
