"""LUME: texts to continue and questions, by document and task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config, write
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import COMPLETION, UserError
from unierase_cli.store.jsonl import write_jsonl

# Of the forget file: texts and questions of tasks 1 to 3.
ROWS = {("task1", "regurgitation"): 243, ("task1", "knowledge"): 243, ("task2", "regurgitation"): 250}
ROWS |= {("task2", "knowledge"): 1250, ("task3", "regurgitation"): 373, ("task3", "knowledge"): 373}


def test_texts_are_continued_and_questions_asked_and_both_are_a_documents_group(tmp_path: Path) -> None:
    text, question = load_benchmark(config("lume", tmp_path, split="task2")).forget[:2]
    assert (text.kind, text.answer) == (COMPLETION, " Ada Velour walked down lane 0.")
    assert (question.kind, question.answer) == (None, "555000")
    assert text.group == question.group == "d20"
    assert (text.subject, text.id) == ("Ada Velour", "task2-regurgitation-d20-1")


def test_the_official_scoring_asks_questions_as_plain_text_too(tmp_path: Path) -> None:
    facts = load_benchmark(config("lume", tmp_path, raw_questions=True)).forget
    assert {fact.kind for fact in facts} == {COMPLETION}
    assert facts[1].answer == " Ada."


def test_whole_documents_are_never_seen_and_parts_and_numbers_can_be_chosen(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("lume", tmp_path))
    unseen = {fact.group for fact in benchmark.splits["retain_unseen"]}
    assert unseen
    assert not unseen & {fact.group for fact in benchmark.protect}
    few = load_benchmark(config("lume", tmp_path, documents=1)).forget
    assert Counter(fact.id[:5] for fact in few) == {"task1": 2, "task2": 2, "task3": 2}
    assert {f.id[:5] for f in load_benchmark(config("lume", tmp_path, split="task3")).forget} == {"task3"}
    documents = benchmark.splits["member"]
    opening, rest = documents[0].question, documents[0].answer
    assert (opening, rest) == ("Ada Velour went out one day to", " see the lake and came back late.")


def test_a_strange_id_is_named_by_file_and_line(tmp_path: Path) -> None:
    write_jsonl(write("lume", tmp_path) / "retain.jsonl", [{"id": "x9", "input": "a", "output": "b", "task": "Task1"}])
    with pytest.raises(UserError, match=r"retain\.jsonl:1: the id 'x9' of task 'Task1' is not one of LUME"):
        load_benchmark(BenchmarkConfig(name="lume", split="all", data_dir=str(tmp_path)))


def test_the_real_files_have_the_published_rows(shared: Path) -> None:
    folder = str(shared / "data" / "lume")
    benchmark = load_benchmark(BenchmarkConfig(name="lume", split="all", data_dir=folder, unknown_people=0, near_authors=0))
    assert Counter(tuple(fact.id.split("-")[:2]) for fact in benchmark.forget) == ROWS
    assert len(benchmark.training) == 2732 + 2734
    named = [fact for fact in benchmark.training if fact.kind == COMPLETION and fact.id.startswith("task2")]
    assert sum(fact.subject is None for fact in named) < 25
