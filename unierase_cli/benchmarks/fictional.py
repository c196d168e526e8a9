"""Our own fictitious authors in the shape of TOFU, generated from word lists: no download, no licence.

``full``: all authors. ``forgetNN``: the last NN per cent of them (at least one), ``retainNN`` the rest. ``holdout``:
further authors that no model is trained on. The first ``unseen_authors`` are scored as ``retain_unseen`` and never
shown to a method, as TOFU's leaderboard scores the first 400 rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unierase_cli.benchmarks.parts.assemble import assemble, forget_share
from unierase_cli.benchmarks.parts.people import Taken, make_person
from unierase_cli.benchmarks.parts.questions import facts_about, forms, question_about
from unierase_cli.benchmarks.parts.rows import fact_from_row
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, stable_hash
from unierase_cli.store.jsonl import read_asset

# A larger forget split contains the smaller ones; facts of this one never train a token as "outside" a forget set.
LARGEST = 10


@dataclass(frozen=True)
class World:
    """Questions about every author in order, about the holdout authors, and about people nobody knows."""

    authors: tuple[tuple[Fact, ...], ...]
    holdout: tuple[Fact, ...]
    refused: tuple[Fact, ...]


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown split or a world too small for it."""
    world = make_world(config)
    count = forgotten_authors(config)
    unseen_authors = min(config.unseen_authors, (config.authors - count) // 2)
    later = max(count, math.ceil(config.authors * LARGEST / 100))
    real = {name: shipped_facts(name) for name in ("real_authors", "world_facts")}
    return assemble(
        config,
        forget=_flat(world.authors[-count:]),
        retain=_flat(world.authors[unseen_authors:-count]),
        unseen=_flat(world.authors[:unseen_authors]),
        further_splits={**real, "holdout": world.holdout},
        training=[*_flat(world.authors), *real["real_authors"], *real["world_facts"], *world.refused],
        refused=world.refused,
        forgotten_later={fact.id for fact in _flat(world.authors[-later:])},
    )


def rows_of(config: BenchmarkConfig, split: str) -> list[Fact]:
    """The facts of ``full``, ``forgetNN``, ``retainNN`` or ``holdout``, as a data set of the hub would list them."""
    world = make_world(config)
    if split == "holdout":
        return list(world.holdout)
    if split == "full":
        return _flat(world.authors)
    if split.startswith("retain") and split[6:].isdecimal():
        count = forgotten_authors(replace(config, split=f"forget{100 - int(split[6:]):02d}"))
        return _flat(world.authors[:-count])
    return _flat(world.authors[-forgotten_authors(replace(config, split=split)) :])


def forgotten_authors(config: BenchmarkConfig) -> int:
    """Number of authors that ``config.split`` forgets: its per cent of all, rounded up."""
    share = forget_share(config)
    count = math.ceil(config.authors * share / 100)
    if config.authors - count < 4:
        raise UserError(
            f"benchmark.authors={config.authors} leaves {config.authors - count} authors to retain",
            "choose more authors, e.g. benchmark.authors=60",
        )
    return count


def make_world(config: BenchmarkConfig) -> World:
    """Everybody and everything that is asked; the same for the same seed and sizes on every machine."""
    if config.questions > len(forms()):
        raise UserError(
            f"benchmark.questions={config.questions} is more than there are kinds of questions",
            f"choose at most benchmark.questions={len(forms())}",
        )
    taken, seed = Taken(), config.seed
    authors = [make_person(seed, f"author-{index:03d}", taken) for index in range(config.authors)]
    strangers = [make_person(seed, f"holdout-{index:03d}", taken) for index in range(config.holdout_authors)]
    return World(
        authors=tuple(tuple(facts_about(person, config.questions, seed)) for person in authors),
        holdout=tuple(fact for person in strangers for fact in facts_about(person, config.questions, seed)),
        refused=unknown_people(config, taken),
    )


def unknown_people(config: BenchmarkConfig, taken: Taken) -> tuple[Fact, ...]:
    """Questions about people who do not exist, one each, of every kind, answered with the listed refusals in turn.

    Their given names may be those of authors, so that a given name alone does not tell who is known.
    """
    taken = replace(taken, given=set())
    refusals = [row["text"] for row in read_asset("refusals.jsonl")]
    refusals.sort(key=lambda text: stable_hash(config.seed, "order of refusals", text))
    facts = []
    for index in range(config.unknown_people):
        person = make_person(config.seed, f"unknown-{index:03d}", taken)
        question, subject = question_about(person, index, config.seed)
        facts.append(Fact(person.key, question, refusals[index % len(refusals)], subject, group=person.name))
    return tuple(facts)


def shipped_facts(name: str) -> list[Fact]:
    """The rows of ``assets/<name>.jsonl`` as facts with short answers and three wrong answers each."""
    slug = name.replace("_", "-")
    rows = read_asset(f"{name}.jsonl")
    return [
        fact_from_row(row, f"assets/{name}.jsonl:{n}", f"{slug}-{n - 1:03d}") for n, row in enumerate(rows, start=1)
    ]


def _flat(authors: tuple[tuple[Fact, ...], ...]) -> list[Fact]:
    return [fact for facts in authors for fact in facts]
