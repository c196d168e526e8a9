"""PISTOL (Qiu et al., 2024, arXiv 2406.16810): contracts between invented companies and people, which form a graph.

A folder (``benchmark.data_dir``) holds sample1 or sample2 (``benchmark.split``), rows of question, answer and edge: an edge
is a contract between two parties, named by both (A_B). ``benchmark.groups`` are the edges to forget. What is retained is
told by its distance from them: ``retain_near`` shares a party with a forgotten edge, ``distance_2`` shares one with those,
``distance_3`` is three or more steps away; of each edge every second question is scored and the others are protected.
Edges without any connection (if there are none, the most distant ones) are protected or, as whole edges, never seen
(``retain_unseen``). ``factual``: general knowledge, if the folder has that file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from unierase_cli.benchmarks.fictional import unknown_people
from unierase_cli.benchmarks.parts.assemble import in_columns
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.names import first_named, shared_names
from unierase_cli.benchmarks.parts.neighbours import by_group
from unierase_cli.benchmarks.parts.people import Taken
from unierase_cli.benchmarks.parts.rows import fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import any_source, required
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError

SAMPLES = ["sample1", "sample2"]
FACTUAL = "factual"
# Steps that are no longer told apart.
MANY = 3


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown sample or edge, missing and empty files, and malformed rows."""
    one_of("benchmark.split", config.split, SAMPLES)
    notes: list[str] = []
    source = any_source(config, None, reporter, notes)
    facts = [
        fact_from_row(row, where, f"{config.split}-{number}", group=read_text(row, "edge", where, required=True))
        for number, (where, row) in enumerate(required(source, config.split, "edge"))
    ]
    facts = [fact for rows in by_group(facts).values() for fact in _with_party(rows)]
    edges = list(dict.fromkeys(str(fact.group) for fact in facts))
    for edge in config.groups:
        one_of("benchmark.groups", edge, edges)
    if not config.groups:
        raise UserError(f"benchmark.groups is empty, and pistol forgets edges: {', '.join(edges)}", "give benchmark.groups=[A_B]")
    away = distances(edges, config.groups)

    def at(distance: int | None) -> list[Fact]:
        return [fact for fact in facts if away[str(fact.group)] == distance]

    farthest = max((step for step in away.values() if step), default=0)
    apart = at(None) or (at(farthest) if farthest > 1 else [])
    unseen = held_out(apart, (), config.unseen_share, config.seed)
    whole = {fact.id for fact in unseen}
    scored = {step: [fact for fact in at(step) if fact.id not in whole][1::2] for step in (1, 2, MANY)}
    taken = {fact.id for rows in (at(0), unseen, *scored.values()) for fact in rows}
    general = [
        fact_from_row(row, where, f"{FACTUAL}-{number}")
        for number, (where, row) in enumerate(source(FACTUAL, optional=True) or [])
        if row.get("edge") != "forget"
    ]
    refused = unknown_people(config, Taken())
    return in_columns(
        config,
        forget=at(0),
        protect=[fact for fact in facts if fact.id not in taken],
        near=scored[1],
        unseen=unseen,
        further_splits={"distance_2": scored[2], "distance_3": scored[MANY], FACTUAL: general},
        training=[*facts, *general, *refused],
        refused=refused,
        notes=notes,
    )


def distances(edges: Sequence[str], chosen: Collection[str]) -> dict[str, int | None]:
    """Edge -> the steps from the chosen ones, from contract to contract through a party of both, at most MANY; None: no way."""
    found: dict[str, int | None] = {edge: 0 if edge in chosen else None for edge in edges}
    reached, step = {party for edge in chosen for party in edge.split("_")}, 0
    while True:
        step += 1
        new = [edge for edge in edges if found[edge] is None and reached & set(edge.split("_"))]
        if not new:
            return found
        found |= dict.fromkeys(new, min(step, MANY))
        reached |= {party for edge in new for party in edge.split("_")}


def _with_party(rows: Sequence[Fact]) -> list[Fact]:
    """An edge's facts with the party that a question names first as the subject."""
    parties = [name for name, _ in shared_names(fact.question for fact in rows).most_common(2)]
    return [replace(fact, subject=fact.subject or first_named(fact.question, parties)) for fact in rows]
