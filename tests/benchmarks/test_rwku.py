"""RWKU: people to forget by name, three levels of questions, neighbours, and people that no method sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.benchmark_files import PEOPLE, config
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.contracts import COMPLETION, UserError
from unierase_cli.store.jsonl import write_jsonl


def test_methods_see_texts_and_the_levels_ask_about_the_same_people(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("rwku", tmp_path))
    assert {fact.group for fact in benchmark.forget} == set(PEOPLE[:2])
    assert all(fact.kind == COMPLETION for fact in benchmark.forget)
    for level in ("forget_level1", "forget_level2", "forget_level3"):
        assert {fact.group for fact in benchmark.splits[level]} == set(PEOPLE[:2])
    assert len(benchmark.splits["retain_near"]) == 4
    unseen = {fact.group for fact in benchmark.splits["retain_unseen"]}
    assert unseen
    assert unseen.isdisjoint({*PEOPLE[:2], *(fact.group for fact in benchmark.protect)})


def test_questions_have_the_official_instruction_and_the_given_subject(tmp_path: Path) -> None:
    splits = load_benchmark(config("rwku", tmp_path)).splits
    blank, attack = splits["forget_level1"][0], splits["forget_level3"][0]
    assert blank.question == "Please complete the blank in the following question.\nQuestion: Ada Velour was born in ___."
    assert attack.question.startswith("Please briefly answer the following question.\nQ: Who?"), "in-context rows have no heading"
    assert (blank.subject, attack.subject) == ("Ada Velour", "Ada Velour")


def test_own_rows_may_replace_the_texts_and_people_must_exist(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    write_jsonl(own, [{"question": "Where does Ada Velour live?", "answer": "In town 0."}])
    (fact,) = load_benchmark(config("rwku", tmp_path, path=str(own))).forget
    assert fact.kind is None
    with pytest.raises(UserError, match="benchmark.groups=Nobody is not a choice"):
        load_benchmark(config("rwku", tmp_path, groups=["Nobody"]))
    with pytest.raises(UserError, match="benchmark.groups is empty"):
        load_benchmark(config("rwku", tmp_path, groups=[]))
