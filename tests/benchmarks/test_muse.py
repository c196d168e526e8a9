"""MUSE: whole texts in passages, beginnings to continue, questions after examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.benchmark_files import config
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.texts import OPENING, PASSAGE, passages, whole_text
from unierase_cli.contracts import COMPLETION, UserError


def test_everything_is_plain_text_and_the_official_prompts_are_kept(tmp_path: Path) -> None:
    benchmark = load_benchmark(config("muse", tmp_path))
    every = [*benchmark.forget, *benchmark.protect, *(fact for facts in benchmark.splits.values() for fact in facts)]
    assert {fact.kind for fact in every} == {COMPLETION}
    asked = benchmark.splits["forget_eval"][0]
    assert asked.question.startswith("Question: Who went out in forget_qa example 0?\nAnswer: Ada Velour\n\nQuestion: ")
    assert asked.question.endswith("Question: Who went out in forget_qa 0?\nAnswer: ")
    assert asked.answer == "Ada Velour"
    assert (benchmark.splits["verbatim"][0].question, benchmark.splits["verbatim"][0].answer) == (
        "Ada Velour went out to", " see the old mill.",
    )  # fmt: skip
    assert benchmark.splits["member"][0].id == "news-member-0000"


def test_passages_are_the_text_again_and_none_is_a_few_words() -> None:
    text = " ".join(f"word{n}" for n in range(2 * PASSAGE + OPENING - 1))
    found = passages({"text": text}, "here", "t")
    assert " ".join(fact.question + fact.answer for fact in found) == text
    assert [len((fact.question + fact.answer).split()) for fact in found] == [PASSAGE, PASSAGE + OPENING - 1]
    assert {len(fact.question.split()) for fact in found} == {OPENING}
    assert {fact.group for fact in found} == {"t"}
    assert passages({"text": "two words"}, "here", "t")[0].answer == " words"
    with pytest.raises(UserError, match="here: 'one' is too short a text"):
        whole_text({"text": "one"}, "here", "t")


def test_an_unknown_corpus_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="benchmark.split=films is not a choice"):
        load_benchmark(config("muse", tmp_path, split="films"))
