"""The shipped questions about the world: their form, which facts of them are forgotten, and which are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.world import shipped
from unierase_cli.config.compose import compose
from unierase_cli.contracts import UserError, duplicates, normalised
from unierase_cli.store.jsonl import read_asset
from unierase_cli.words import words

Row = dict[str, Any]
KEYS = ["id", "group", "question", "answer", "aliases", "subject", "paraphrases", "wrong_answers"]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_asset("world_questions.jsonl")


@pytest.fixture(scope="module", params=["english", "russian"])
def shipped_rows(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of every language."""
    return [row for _, row in shipped(request.param)]


def holds(text: str, phrase: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def test_there_are_hundreds_of_questions_in_dozens_of_groups(rows: list[Row]) -> None:
    groups = Counter(row["group"] for row in rows)
    assert len(rows) >= 400
    assert len(groups) >= 40
    assert min(groups.values()) >= 10


def test_every_question_has_all_that_is_asked_and_scored(shipped_rows: list[Row]) -> None:
    assert all(list(row) == KEYS for row in shipped_rows)
    for row in shipped_rows:
        texts = (row["question"], row["answer"], *row["aliases"], *row["paraphrases"], *row["wrong_answers"])
        assert all(text == text.strip() and words(text) for text in texts), row["id"]
    assert {(len(row["paraphrases"]), len(row["wrong_answers"])) for row in shipped_rows} == {(2, 3)}
    assert max(len(words(row["answer"])) for row in shipped_rows) <= 4


def test_no_id_and_no_wording_is_there_twice(shipped_rows: list[Row]) -> None:
    assert duplicates(row["id"] for row in shipped_rows) == []
    assert duplicates(normalised(text) for row in shipped_rows for text in (row["question"], *row["paraphrases"])) == []


def test_the_subject_stands_in_every_phrasing_and_the_answer_in_none(shipped_rows: list[Row]) -> None:
    for row in shipped_rows:
        for text in (row["question"], *row["paraphrases"]):
            assert row["subject"] in text, text
            assert not any(holds(text, right) for right in (row["answer"], *row["aliases"])), text


def test_wrong_answers_are_neither_the_answer_nor_another_spelling_of_it(shipped_rows: list[Row]) -> None:
    for row in shipped_rows:
        assert len({normalised(wrong) for wrong in row["wrong_answers"]}) == 3, row["id"]
        for wrong in row["wrong_answers"]:
            assert not any(holds(wrong, right) or holds(right, wrong) for right in (row["answer"], *row["aliases"])), row["id"]


def test_without_a_folder_all_questions_are_served_and_said_to_be_unproved(rows: list[Row]) -> None:
    benchmark = load_benchmark(compose(["benchmark=world", "benchmark.split=forget05"]).benchmark)
    assert len(benchmark.training) == len(rows)
    assert len(benchmark.forget) == len(rows) * 5 // 100
    few = load_benchmark(compose(["benchmark=world", "benchmark.protect_limit=30"]).benchmark)
    assert {fact.group for fact in few.splits["retain_near"]} <= {fact.group for fact in few.protect}
    assert len(few.protect) == 30
    assert any("unierase prepare" in note for note in benchmark.notes)
    assert benchmark.outside
    groups = {name: {fact.group for fact in facts} for name, facts in benchmark.splits.items()}
    assert groups["retain_near"] <= groups["forget"]
    assert not groups["retain_unseen"] & (groups["forget"] | {fact.group for fact in benchmark.protect})
    for split in ("all", "forget00", "forget51"):
        with pytest.raises(UserError, match=f"benchmark.split={split} is not a forget split"):
            load_benchmark(compose(["benchmark=world", f"benchmark.split={split}"]).benchmark)


def test_a_folder_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    for folder, complaint in ((tmp_path, "not a folder that unierase prepare made"), (tmp_path / "none", "is not a folder")):
        for name in ("world", "jsonl"):
            with pytest.raises(UserError, match=complaint):
                load_benchmark(compose([f"benchmark={name}", f"benchmark.data_dir={folder}"]).benchmark)


def test_a_fact_keeps_its_first_paraphrase_and_its_wrong_answers(rows: list[Row]) -> None:
    benchmark = load_benchmark(compose(["benchmark=world"]).benchmark)
    row = next(row for row in rows if row["id"] == benchmark.forget[0].id)
    fact = benchmark.forget[0]
    assert fact.paraphrased_question == row["paraphrases"][0]
    assert (fact.subject, list(fact.wrong_answers), fact.group) == (row["subject"], row["wrong_answers"], row["group"])
