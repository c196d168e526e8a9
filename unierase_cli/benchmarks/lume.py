"""LUME (Ramakrishna et al., 2025, arXiv 2502.15097; SemEval-2025 task 4): stories, made-up and real biographies.

A folder (``benchmark.data_dir``: data of the authors' repository) holds forget and retain: rows of id, input, output and task.
``...sc`` ids are texts to continue (kind ``completion``), ``...qa`` ids questions; a document and its questions are a group.
``benchmark.split`` is all, task1, task2 or task3. A share of the documents to retain is never seen. With ``member`` and
``nonmember`` ({id, document}) the documents are scored for membership, but for their first eight words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unierase_cli.benchmarks.fictional import unknown_people
from unierase_cli.benchmarks.parts.assemble import assemble, drop_asked
from unierase_cli.benchmarks.parts.known_facts import held_out
from unierase_cli.benchmarks.parts.neighbours import by_group
from unierase_cli.benchmarks.parts.people import Taken
from unierase_cli.benchmarks.parts.rows import completion, fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import Rows, any_source, required
from unierase_cli.benchmarks.parts.texts import whole_text
from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Fact, Reporter, UserError, evenly_spaced, normalised

KEYS = ("id", "input", "output", "task")
PARTS = ["all", "task1", "task2", "task3"]
KINDS = {"sc": "regurgitation", "qa": "knowledge"}
ID = re.compile(r"\"?(?P<document>[^\"]+)\"?(?P<kind>sc|qa)(?P<number>\d+)")
# A made-up biography begins with the name; a real one has it as its first line.
OPENING = {"task2": re.compile(r"[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)+"), "task3": re.compile(r"[^\n]+(?=\n)")}
MEMBERS = ("member", "nonmember")


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for an unknown part, missing and empty files, and malformed rows."""
    one_of("benchmark.split", config.split, PARTS)
    notes: list[str] = []
    source = any_source(config, None, reporter, notes)
    forget, retain = (
        _chosen([_fact(row, where, config.raw_questions) for where, row in required(source, name, *KEYS)], config)
        for name in ("forget", "retain")
    )
    retain = drop_asked(retain, {normalised(fact.question) for fact in forget}, "retain", "a forget row", notes)
    refused = unknown_people(config, Taken())
    splits = {name: _documents(source(name, optional=True) or [], name) for name in MEMBERS}
    return assemble(
        config,
        forget=forget,
        retain=retain,
        unseen=held_out(retain, (), config.unseen_share, config.seed),
        further_splits=splits,
        training=[*forget, *retain, *refused],
        refused=refused,
        notes=notes,
    )


def _fact(row: dict[str, Any], where: str, raw: bool) -> Fact:
    named, task = (read_text(row, key, where, required=True) or "" for key in ("id", "task"))
    found, part = ID.fullmatch(named), task.lower()
    if found is None or part not in PARTS[1:]:
        raise UserError(
            f"{where}: the id {named!r} of task {task!r} is not one of LUME", "ids end with sc1 or qa0, tasks are Task1 to Task3"
        )
    kind = KINDS[found["kind"]]
    name = f"{part}-{kind}-{found['document']}-{found['number']}"
    texts = {"question": row["input"], "answer": row["output"]}
    fact = fact_from_row(texts, where, name, group=found["document"])
    if kind == "knowledge":
        return completion(fact) if raw else fact
    opening = OPENING[part].match(fact.question) if part in OPENING else None
    return completion(replace(fact, subject=opening.group() if opening else None))


def _chosen(facts: Sequence[Fact], config: BenchmarkConfig) -> list[Fact]:
    """The facts of the part, of at most ``benchmark.documents`` documents per task, evenly spaced."""
    found: list[Fact] = []
    for task in PARTS[1:]:
        documents = list(by_group([fact for fact in facts if fact.id.startswith(task)]).values())
        if config.split in (task, "all"):
            found += [fact for rows in evenly_spaced(documents, config.documents or len(documents)) for fact in rows]
    return found


def _documents(rows: Rows, name: str) -> list[Fact]:
    return [whole_text(row, where, f"{name}-{number}", "document") for number, (where, row) in enumerate(rows)]
