"""The simple subject finder."""

from __future__ import annotations

from pathlib import Path

import pytest

from unierase_cli.benchmarks.fictional import rows_of
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Fact
from unierase_cli.editing.subjects import find_subjects, proper_names, shared_name
from unierase_cli.store.jsonl import read_jsonl


def _facts(*questions: str, group: str | None = None) -> list[Fact]:
    return [Fact(str(n), question, "x", group=group) for n, question in enumerate(questions)]


def test_a_given_subject_is_kept() -> None:
    fact = Fact("a", "Who is Ada Velour of Lisbon?", "x", subject="Lisbon", group="g")
    assert find_subjects([fact, *_facts("When was Ada Velour born?", group="g")]) == ["Lisbon", "Ada Velour"]


def test_the_shared_name_wins_over_longer_names_of_one_question() -> None:
    facts = _facts(
        "What made Ada Velour move to New York City?",
        "Did Ada Velour's mother teach?",
        "Is Velour married?",
        "What is the full name of the author born in Lisbon on 1 May 1950?",
        group="g",
    )
    assert find_subjects(facts) == ["Ada Velour", "Ada Velour", "Velour", "the author born in Lisbon on 1 May 1950"]


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("In which city was Ada Velour born?", "Ada Velour"),
        ("Is Ada Velour's work known?", "Ada Velour"),
        ("Does Ludwig van der Meer write?", "Ludwig van der Meer"),
        ("What is Basil Mahfouz Al-Kuwaiti known for?", "Basil Mahfouz Al-Kuwaiti"),
        ("Where did Patrick Ryan O’Donnell grow up?", "Patrick Ryan O’Donnell"),
        ("Was Élodie Ørsted an influence?", "Élodie Ørsted"),
        ("Где родилась Анна Каренина?", "Анна Каренина"),
        ("Who wrote the poem 'The Silent Gate'?", "The Silent Gate"),
        ("What is the capital of france?", "the capital of france"),
        ("Who is the author born in Rome, Italy on 1 May 1950?", "the author born in Rome, Italy on 1 May 1950"),
        ("How do her books end?", "her books"),
        ("Can you tell us about the prizes of this author?", "the prizes of this author"),
        ("東京の人口は？", None),
        ("Why?", None),
    ],
)
def test_without_a_group_the_question_decides(question: str, subject: str | None) -> None:
    assert find_subjects(_facts(question)) == [subject]
    assert subject is None or subject in question


def test_names_end_at_commas_and_possessives() -> None:
    assert proper_names("How did Ada Velour, Bo Lund and Cy Hill's Uncle Tom meet?") == [
        "Ada Velour", "Bo Lund", "Cy Hill", "Uncle Tom",
    ]  # fmt: skip


def test_no_name_is_shared_by_questions_that_share_none() -> None:
    assert shared_name(["Who is Ada?", "Who is Bo?"]) is None
    assert shared_name([]) is None


def test_our_own_benchmark_is_read_as_it_was_made() -> None:
    rows = rows_of(BenchmarkConfig(), "full")
    blank = [Fact(fact.id, fact.question, fact.answer, group=fact.group) for fact in rows]
    found = find_subjects(blank)
    agreed = sum(subject == fact.subject for subject, fact in zip(found, rows, strict=True))
    assert agreed / len(rows) >= 0.99


def test_agreement_with_published_tofu_subjects(shared: Path) -> None:
    """Measured: 98.97 % where the subject is the author's name (one author in brackets, one with a lower-case particle)."""
    rows = read_jsonl(shared / "data" / "tofu" / "full_subject.jsonl")
    facts = [Fact(str(row["index"]), row["question"], row["answer"], group=str(row["author_index"])) for row in rows]
    found = find_subjects(facts)
    named = [(row, subject) for row, subject in zip(rows, found, strict=True) if row["subject_is_author"]]
    assert sum(row["subject"] == subject for row, subject in named) / len(named) >= 0.985
    assert all(subject is None or subject in row["question"] for row, subject in zip(rows, found, strict=True))
