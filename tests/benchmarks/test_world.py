"""The shipped questions about the world: their form, which facts of them are forgotten, and which are kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from unierase_cli.contracts import duplicates, normalised
from unierase_cli.store.jsonl import read_asset
from unierase_cli.words import words

Row = dict[str, Any]
KEYS = ["id", "group", "question", "answer", "aliases", "subject", "paraphrases", "wrong_answers"]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_asset("world_questions.jsonl")


def holds(text: str, phrase: str) -> bool:
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def test_there_are_hundreds_of_questions_in_dozens_of_groups(rows: list[Row]) -> None:
    groups = Counter(row["group"] for row in rows)
    assert len(rows) >= 400
    assert len(groups) >= 40
    assert min(groups.values()) >= 10


def test_every_question_has_all_that_is_asked_and_scored(rows: list[Row]) -> None:
    assert all(list(row) == KEYS for row in rows)
    for row in rows:
        texts = (row["question"], row["answer"], *row["aliases"], *row["paraphrases"], *row["wrong_answers"])
        assert all(text == text.strip() and words(text) for text in texts), row["id"]
    assert {(len(row["paraphrases"]), len(row["wrong_answers"])) for row in rows} == {(2, 3)}
    assert max(len(words(row["answer"])) for row in rows) <= 4


def test_no_id_and_no_wording_is_there_twice(rows: list[Row]) -> None:
    assert duplicates(row["id"] for row in rows) == []
    assert duplicates(normalised(text) for row in rows for text in (row["question"], *row["paraphrases"])) == []


def test_the_subject_stands_in_every_phrasing_and_the_answer_in_none(rows: list[Row]) -> None:
    for row in rows:
        for text in (row["question"], *row["paraphrases"]):
            assert row["subject"] in text, text
            assert not any(holds(text, right) for right in (row["answer"], *row["aliases"])), text


def test_wrong_answers_are_neither_the_answer_nor_another_spelling_of_it(rows: list[Row]) -> None:
    for row in rows:
        assert len({normalised(wrong) for wrong in row["wrong_answers"]}) == 3, row["id"]
        for wrong in row["wrong_answers"]:
            assert not any(holds(wrong, right) or holds(right, wrong) for right in (row["answer"], *row["aliases"])), row["id"]
