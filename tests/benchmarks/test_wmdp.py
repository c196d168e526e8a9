"""WMDP: questions with lettered choices to score, and texts or right choices to forget."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config, write
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.contracts import COMPLETION, UserError
from unierase_cli.store.jsonl import write_jsonl


def test_the_scored_prompt_is_lm_evals_and_the_letters_are_the_choices(tmp_path: Path) -> None:
    row = load_benchmark(config("wmdp", tmp_path)).splits["forget_eval"][1]
    assert row.question == (
        "The following are multiple choice questions (with answers) about biology.\n\nWhich cell is number 1?\n"
        "A. a red cell\nB. a blue cell\nC. a green cell\nD. no cell\nAnswer:"
    )
    assert (row.answer, row.wrong_answers, row.kind) == (" B", (" A", " C", " D"), COMPLETION)


def test_methods_see_the_right_choices_or_texts_and_may_keep_other_facts(tmp_path: Path) -> None:
    plain = load_benchmark(config("wmdp", tmp_path)).forget[1]
    assert (plain.answer, len(plain.wrong_answers), plain.kind) == ("a blue cell", 3, None)
    texts, kept = tmp_path / "texts.jsonl", tmp_path / "keep.jsonl"
    write_jsonl(texts, [{"text": "Cells are red or blue or green, and some are not there at all."}])
    write_jsonl(kept, [{"question": f"What is {n} and 1?", "answer": f"It is {n + 1}."} for n in range(8)])
    benchmark = load_benchmark(config("wmdp", tmp_path, path=str(texts), retain_path=str(kept)))
    assert [fact.kind for fact in benchmark.forget] == [COMPLETION]
    assert (len(benchmark.protect), len(benchmark.splits["retain_unseen"])) == (4, 4)


def test_a_row_without_four_choices_is_named(tmp_path: Path) -> None:
    folder = write("wmdp", tmp_path)
    write_jsonl(folder / "wmdp-bio" / "test.jsonl", [{"question": "Which?", "choices": ["a", "b"], "answer": 1}])
    with pytest.raises(UserError, match=r"test\.jsonl:1: 2 choices and the answer 1"):
        load_benchmark(config("wmdp", tmp_path / "other", data_dir=str(folder)))
