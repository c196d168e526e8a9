"""RETURN (Liu et al., 2024, arXiv 2407.10058): real people that a model knows, ten questions each to learn from, ten to
score.

Selected by ``benchmark=return``. The splits depend on which people a model knows: the published ones are for
Meta-Llama-3-8B-Instruct; ``unierase prepare-return`` makes others. A folder (``benchmark.data_dir``) holds
forget_train, forget_eval, retain_train and retain_eval as JSON Lines, with either a question per line or, as in the
authors' repository, a person per line with their questions under ``data``.

forget_train is forgotten, retain_train protected. ``forget_eval`` (unseen questions about the same people) and
``retain_unseen`` (retain_eval) are what the authors score: the questions are unseen, the people are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.benchmarks.parts.assemble import as_published, drop_asked
from unierase_cli.benchmarks.parts.built_for import read_built_for
from unierase_cli.benchmarks.parts.rows import fact_from_row, read_text
from unierase_cli.benchmarks.parts.sources import Rows, folder_source
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, BuiltFor, Fact, Reporter, UserError, normalised

PUBLISHED_FOR = "meta-llama/Meta-Llama-3-8B-Instruct"
ROLES, PARTS = ("forget", "retain"), ("train", "eval")
FILES = tuple(f"{role}_{part}" for role in ROLES for part in PARTS)
Source = Callable[..., Rows | None]


def load(config: BenchmarkConfig, reporter: Reporter | None = None) -> Benchmark:
    """The benchmark; raises UserError for missing files, malformed rows, and a person in both forget and retain files."""
    if config.data_dir is None:
        raise UserError(
            "benchmark=return needs the folder of its splits: benchmark.data_dir=FOLDER",
            "use data/Meta-Llama-3-8B-Instruct of the repository learning-to-refuse, or make splits for another model with "
            "unierase prepare-return",
        )
    notes: list[str] = []
    source = folder_source(config.data_dir)
    rows = {name: _once(_facts(source(name) or [], name), name, notes) for name in FILES}
    _check_people(rows, config.data_dir)
    rows = _without_leaks(rows, notes)
    made_up = {role: _augmented(source, role, rows, notes) if config.augmented else [] for role in ROLES}
    return as_published(
        config,
        forget=[*rows["forget_train"], *made_up["forget"]],
        protect=[*rows["retain_train"], *made_up["retain"]],
        forget_splits={"forget": rows["forget_train"], "forget_eval": rows["forget_eval"]},
        protected=rows["retain_train"],
        unseen=rows["retain_eval"],
        built_for=read_built_for(Path(config.data_dir)) or BuiltFor(PUBLISHED_FOR),
        notes=notes,
    )


def flat_rows(rows: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row per question for either file layout. Raises UserError for a person without questions."""
    for where, row in rows:
        if "data" not in row:
            yield where, row
            continue
        questions = row["data"]
        if not isinstance(questions, list) or not questions:
            raise UserError(
                f"{where}: {row.get('name')!r} has no questions and answers", "remove the person from the file"
            )
        for number, question in enumerate(questions, start=1):
            if not isinstance(question, dict):
                raise UserError(
                    f"{where}: question {number} is not an object", 'write {"question": "...", "gold_answer": "..."}'
                )
            yield f"{where} question {number}", {"name": row.get("name"), **question}


def _facts(rows: Rows, name: str) -> list[Fact]:
    """A file's questions, each with its person as the group."""
    people: dict[str, int] = {}
    asked: Counter[str] = Counter()
    facts = []
    for where, row in flat_rows(rows):
        person = read_text(row, "name", where, required=True) or ""
        number = people.setdefault(person, len(people))
        facts.append(_fact(row, where, f"{name.replace('_', '-')}-{number}-{asked[person]}", person))
        asked[person] += 1
    if not facts:
        raise UserError(f"RETURN's {name} has no rows", "check benchmark.data_dir")
    return facts


def _fact(row: Mapping[str, Any], where: str, fact_id: str, person: str) -> Fact:
    named = isinstance(row.get("question"), str) and person in row["question"]
    key = "gold_answer" if "gold_answer" in row else "answer"
    return fact_from_row(row, where, fact_id, group=person, subject=person if named else None, answer_key=key)


def _once(facts: Sequence[Fact], name: str, notes: list[str]) -> list[Fact]:
    """The facts without repeated questions about the same person."""
    kept: dict[tuple[str | None, str], Fact] = {}
    for fact in facts:
        kept.setdefault((fact.group, normalised(fact.question)), fact)
    if len(kept) < len(facts):
        notes.append(f"{len(facts) - len(kept)} row(s) of {name} repeat a question and are left out")
    return list(kept.values())


def _check_people(rows: Mapping[str, Sequence[Fact]], folder: str) -> None:
    """Raise UserError for a person who is both to be forgotten and to be kept."""
    forgotten, kept = ({fact.group for split in PARTS for fact in rows[f"{role}_{split}"]} for role in ROLES)
    if both := sorted(str(name) for name in forgotten & kept):
        raise UserError(
            f"{folder}: {len(both)} person(s) are to be both forgotten and kept, the first is {both[0]}",
            "the four files must come from the same split",
        )


def _without_leaks(rows: Mapping[str, list[Fact]], notes: list[str]) -> dict[str, list[Fact]]:
    """The rows without scored questions that a method sees, and without retain rows that repeat a forget question."""
    found = dict(rows)
    for role in ROLES:
        shown = {normalised(fact.question) for fact in rows[f"{role}_train"]}
        found[f"{role}_eval"] = drop_asked(rows[f"{role}_eval"], shown, f"{role}_eval", f"a {role}_train row", notes)
    asked = {normalised(fact.question) for part in PARTS for fact in found[f"forget_{part}"]}
    for part in PARTS:
        found[f"retain_{part}"] = drop_asked(found[f"retain_{part}"], asked, f"retain_{part}", "a forget row", notes)
    return found


def _augmented(source: Source, role: str, rows: Mapping[str, Sequence[Fact]], notes: list[str]) -> list[Fact]:
    """Questions made from other people's, with the model's own answers; none of them is scored or already known."""
    name = f"{role}_train_augmented"
    known = {normalised(fact.question) for facts in rows.values() for fact in facts}
    made_up = _once(_facts(source(name) or [], name), name, notes)
    # The authors' files list the real questions before the made-up ones.
    real = {normalised(fact.question) for fact in rows[f"{role}_train"]}
    made_up = [fact for fact in made_up if normalised(fact.question) not in real]
    return drop_asked(made_up, known, name, "another row", notes)
