"""Suites of general ability: what is asked, which answers are right, and what is said about files that don't fit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.suites import SQUARE, made_rows, write_suites
from tests.helpers.tiny_models import tiny_llama
from unierase_cli.benchmarks.general import base
from unierase_cli.benchmarks.general.base import SUITES, load_items, load_suite
from unierase_cli.config.compose import compose
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.inference.suites import second_bos
from unierase_cli.store.jsonl import write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_suites(tmp_path / "suites")


def test_every_suite_is_found_by_its_file() -> None:
    assert SUITES.names() == ["gsm8k", "human_eval", "mmlu", "trivia_qa"]
    assert [load_suite(name).NAME for name in SUITES.names()] == SUITES.names()


def test_an_unknown_suite_is_named_with_the_nearest_one() -> None:
    with pytest.raises(
        UserError, match="eval.general.suites=gsm8 is not a suite.*did you mean eval.general.suites=gsm8k"
    ):
        load_suite("gsm8")


def test_a_tenth_of_mmlu_and_trivia_qa_is_drawn_the_same_every_time(folder: Path) -> None:
    (folder / "mmlu_test_sample.jsonl").rename(folder / "mmlu.jsonl")
    config = GeneralConfig(data_dir=str(folder))
    order = list(range(20))
    random.Random(42).shuffle(order)
    assert [item.id for item in load_items("mmlu", config)] == [f"mmlu-{index}" for index in order[:2]]
    assert len(load_items("trivia_qa", config)) == 2
    assert len(load_items("gsm8k", config)) == 5
    whole = GeneralConfig(data_dir=str(folder), share=1.0)
    assert [item.id for item in load_items("mmlu", whole)] == [f"mmlu-{index}" for index in range(20)]
    assert len(load_items("mmlu", GeneralConfig(data_dir=str(folder), share=1.0, rows=7))) == 7
    assert len(load_items("mmlu", GeneralConfig(data_dir=str(folder), share=0.001))) == 1


def test_a_file_that_is_a_sample_is_asked_whole_and_a_note_says_how_many_of_how_many(folder: Path) -> None:
    reporter = SilentReporter()
    assert len(load_items("mmlu", GeneralConfig(data_dir=str(folder)), reporter)) == 20
    assert len(load_items("trivia_qa", GeneralConfig(data_dir=str(folder)), reporter)) == 2
    assert len(load_items("mmlu", GeneralConfig(data_dir=str(folder), rows=3), reporter)) == 3
    assert reporter.notes == [
        "MMLU: 20 of 20 questions are asked (mmlu_test_sample.jsonl is a sample: eval.general.share does not apply)",
        "TriviaQA: 2 of 20 questions are asked",
        "MMLU: 3 of 20 questions are asked (mmlu_test_sample.jsonl is a sample: eval.general.share does not apply)",
    ]


@pytest.mark.parametrize("name", ["mmlu", "gsm8k", "trivia_qa", "human_eval"])
def test_a_prompt_asks_once_and_only_the_compatible_one_twice(folder: Path, name: str) -> None:
    suite, item = load_suite(name), load_items(name, GeneralConfig(data_dir=str(folder)))[0]
    word = {"gsm8k": "Problem:", "human_eval": "Function:"}.get(name, "Question:")
    assert suite.prompt(item, compat=False).count(word) == 1
    assert suite.prompt(item, compat=True).count(word) == 2
    assert "answer is" in suite.prompt(item, compat=False) or "Code:" in suite.prompt(item, compat=False)


def test_missing_files_and_folders_are_told(folder: Path) -> None:
    (folder / "trivia_qa.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no trivia_qa.jsonl.*leave trivia_qa out"):
        load_items("trivia_qa", GeneralConfig(data_dir=str(folder)))
    with pytest.raises(UserError, match="data_dir=nowhere is not a folder"):
        load_items("mmlu", GeneralConfig(data_dir="nowhere"))
    (folder / "gsm8k.jsonl").write_text("")
    with pytest.raises(UserError, match="gsm8k has no rows"):
        load_items("gsm8k", GeneralConfig(data_dir=str(folder)))


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("mmlu", {"question": "q", "choices": ["a", "b"], "answer": 0}, '"choices" is not a list of 4'),
        ("mmlu", {"question": "q", "choices": list("abcd"), "answer": 4}, '"answer" is .4., not an option'),
        ("mmlu", {"question": " ", "choices": list("abcd"), "answer": "B"}, '"question" is not a text'),
        ("gsm8k", {"question": "q", "answer": "#### many"}, "does not end in a number"),
        ("gsm8k", {"answer": "#### 1"}, '"question" is missing'),
        ("trivia_qa", {"question": "q", "answers": []}, '"answers" is not a list of texts'),
        ("trivia_qa", {"question": "q"}, '"answers" is not a list of texts'),
        ("human_eval", {**SQUARE, "entry_point": "cube"}, "does not define the function cube"),
        ("human_eval", {**SQUARE, "test": "assert True"}, "does not define the function check"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(
    folder: Path, name: str, row: dict[str, Any], complaint: str
) -> None:
    write_jsonl(folder / load_suite(name).FILES[0], [row])
    with pytest.raises(UserError, match=rf"{load_suite(name).FILES[0]}:1: .*{complaint}"):
        load_items(name, GeneralConfig(data_dir=str(folder)))


def test_an_id_that_occurs_twice_is_told(folder: Path) -> None:
    write_jsonl(folder / "human_eval.jsonl", [SQUARE, SQUARE])
    with pytest.raises(UserError, match="made/0 occurs twice"):
        load_items("human_eval", GeneralConfig(data_dir=str(folder)))


class _Hub:
    """Stands in for the package `datasets`: the made-up rows under the suites' public names."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, str | None, str]] = []
        self.error = error

    def load_dataset(self, hub: str, name: str | None, *, split: str) -> list[dict[str, Any]]:
        self.asked.append((hub, name, split))
        if self.error:
            raise self.error
        suite = next(suite for suite in map(load_suite, SUITES.names()) if suite.HUB[0] == hub)
        return made_rows()[suite.FILES[0].removesuffix(".jsonl")]


def test_the_hub_and_a_folder_give_the_same_questions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub()
    monkeypatch.setitem(__import__("sys").modules, "datasets", hub)
    (folder / "mmlu_test_sample.jsonl").rename(folder / "mmlu.jsonl")
    for name in SUITES.names():
        assert load_items(name, GeneralConfig()) == load_items(name, GeneralConfig(data_dir=str(folder)))
    assert ("cais/mmlu", "all", "test") in hub.asked


def test_an_unreachable_hub_is_told_in_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", _Hub(ConnectionError("Couldn't reach it\nmore lines")))
    with pytest.raises(UserError, match=r"openai/gsm8k \(gsm8k\) could not be loaded") as caught:
        load_items("gsm8k", GeneralConfig())
    assert "\n" not in caught.value.message
    assert "eval.general.data_dir=" in caught.value.hint


def test_fingerprints_follow_the_content_of_local_files(folder: Path) -> None:
    config = GeneralConfig(suites=["gsm8k", "mmlu"], data_dir=str(folder))
    before = base.data_fingerprints(config)
    write_jsonl(folder / "gsm8k.jsonl", [{"question": "New?", "answer": "#### 1"}])
    after = base.data_fingerprints(config)
    assert (before["gsm8k"] == after["gsm8k"], before["mmlu"] == after["mmlu"]) == (False, True)
    assert base.data_fingerprints(GeneralConfig(suites=["mmlu"])) == {"mmlu": "cais/mmlu all test"}


def test_nothing_is_asked_by_default_and_all_of_it_with_eval_general() -> None:
    assert not compose([]).eval.general.wanted
    assert compose(["eval=general"]).eval.general.suites == ["mmlu", "gsm8k", "trivia_qa", "human_eval"]
    asked, default = compose(["eval=general"]).eval, compose([]).eval
    assert (asked.splits, asked.forget_variants, asked.truth_ratio_splits) == (
        default.splits, default.forget_variants, default.truth_ratio_splits,
    )  # fmt: skip


@pytest.mark.parametrize(
    "values", [{"share": 0.0}, {"share": 1.5}, {"rows": -1}, {"code_seconds": 0}, {"suites": ["mmlu", "mmlu"]}]
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="eval.general"):
        GeneralConfig(**values)


def test_the_real_files_of_mmlu_and_human_eval_are_read(shared: Path) -> None:
    folder = str(shared / "data" / "general")
    assert len(load_items("mmlu", GeneralConfig(data_dir=folder))) == 1425
    assert len(load_items("human_eval", GeneralConfig(data_dir=folder))) == 164


def test_a_second_bos_is_what_a_tokenizer_adds_by_itself_to_a_chat_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_llama()
    assert loaded.prompts.bos_ids
    assert second_bos(loaded) == []
    encode = type(loaded.tokenizer).__call__

    def adding(tokenizer: Any, text: str, **options: Any) -> Any:
        found = encode(tokenizer, text, **options)
        return {"input_ids": [*loaded.prompts.bos_ids, *found["input_ids"]]} if options.get("add_special_tokens") else found

    monkeypatch.setattr(type(loaded.tokenizer), "__call__", adding)
    assert second_bos(loaded) == loaded.prompts.bos_ids
