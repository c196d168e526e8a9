"""RWKU (Jin et al., 2024, arXiv 2406.10890): real people that models know, asked about in three levels of difficulty.

From the hub or a folder (CONFIGURATION/SPLIT.jsonl). ``benchmark.groups`` names the people to forget. Texts about them
(train_positive_llama3), or your own rows (``benchmark.path``, for example what `unierase reveal` found), are what methods
learn from. ``forget_level1`` (blanks), ``forget_level2`` (questions) and ``forget_level3`` (attacks) ask for the people,
``retain_near`` for their neighbours (neighbor_level1 and 2). Texts about other people are protected, and questions
(level 2) about the rest of these are never seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.benchmarks.parts.assemble import drop_asked, in_columns
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.rows import fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import Rows, any_source, required
from unierase_cli.benchmarks.parts.texts import passages
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, normalised
from unierase_cli.store.jsonl import iterate_jsonl

HUB = "jinzhuoran/RWKU"
TEXTS = "train_positive_llama3/train"
LEVELS = ("forget_level1", "forget_level2", "forget_level3")
NEIGHBOURS = ("neighbor_level1", "neighbor_level2")
BLANK, QUESTION = "Please complete the blank in the following question.", "Please briefly answer the following question."
# The type of a question that is given without its heading.
IN_CONTEXT = "incontext learning"


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for a person of whom there is no text, missing and empty files, and malformed rows."""
    notes: list[str] = []
    source = any_source(config, HUB, reporter, notes)
    texts = _texts(required(source, TEXTS, "text", "subject"))
    people = list(dict.fromkeys(str(fact.group) for fact in texts))
    if not config.groups:
        raise UserError("benchmark.groups is empty, and rwku forgets people", f"give benchmark.groups=[{people[0]}], for example")
    for person in config.groups:
        one_of("benchmark.groups", person, people)
    asked = {name: _questions(required(source, f"{name}/test", "query", "answer", "subject"), name) for name in LEVELS + NEIGHBOURS}
    of = {name: [fact for fact in facts if fact.group in config.groups] for name, facts in asked.items()}
    others = [fact for fact in texts if fact.group not in config.groups]
    unseen = {fact.group for fact in held_out(others, (), config.unseen_share, config.seed)}
    own = [fact for fact in texts if fact.group in config.groups] if config.path is None else _own(config.path)
    wording = {normalised(fact.question) for name in LEVELS for fact in of[name]}
    return in_columns(
        config,
        forget=own,
        protect=[fact for fact in others if fact.group not in unseen],
        near=drop_asked([fact for name in NEIGHBOURS for fact in of[name]], wording, "neighbour", "a forget row", notes),
        unseen=[fact for fact in asked[LEVELS[1]] if fact.group in unseen],
        further_splits={name: of[name] for name in LEVELS},
        training=[],
        notes=notes,
    )


def _texts(rows: Rows) -> list[Fact]:
    return [
        fact
        for number, (where, row) in enumerate(rows)
        for fact in passages(row, where, f"text-{number:04d}", group=read_text(row, "subject", where, required=True))
    ]


def _questions(rows: Rows, name: str) -> list[Fact]:
    """A level's questions with their instruction, which names the person as the subject where the question does."""
    found = []
    for number, (where, row) in enumerate(rows):
        query = read_text(row, "query", where, required=True) or ""
        person = read_text(row, "subject", where, required=True) or ""
        heading = "" if row.get("type") == IN_CONTEXT else "Question: "
        text = f"{BLANK if name.endswith('1') else QUESTION}\n{heading}{query}"
        answer = {"question": text, "answer": row["answer"]}
        subject = person if person in query else None
        found.append(fact_from_row(answer, where, f"{name.replace('_', '-')}-{number:04d}", group=person, subject=subject))
    return found


def _own(path: str) -> Sequence[Fact]:
    return [fact_from_row(row, f"{path}:{number}", f"own-{number:04d}") for number, row in iterate_jsonl(path)]
