"""A user's own facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, SilentReporter, UserError
from unierase_cli.store.jsonl import write_jsonl

FULL_ROW = {
    "id": 7, "question": "What does Ada Velour grow?", "answer": "Pears.", "subject": "Ada Velour", "group": "Ada",
    "paraphrased_question": "Which fruit is Ada Velour's?", "paraphrased_answer": "She grows pears.",
    "wrong_answers": ["She grows plums.", "She grows figs."],
}  # fmt: skip


def _rows(count: int, word: str = "keep", per_group: int = 2) -> list[dict[str, Any]]:
    return [{"question": f"{word} {n}?", "answer": f"a{n}", "group": f"{word}{n // per_group}"} for n in range(count)]


def _load(
    tmp_path: Path, forget: list[dict[str, Any]], retain: list[dict[str, Any]] | None = None, **more: Any
) -> Benchmark:
    write_jsonl(tmp_path / "forget.jsonl", forget)
    if retain is not None:
        write_jsonl(tmp_path / "retain.jsonl", retain)
        more["retain_path"] = str(tmp_path / "retain.jsonl")
    return load_benchmark(BenchmarkConfig(name="jsonl", split="all", path=str(tmp_path / "forget.jsonl"), **more))


def test_a_question_and_an_answer_are_enough(tmp_path: Path) -> None:
    benchmark = _load(tmp_path, [{"question": "Who is Ada?", "answer": "A gardener."}])
    assert [(f.id, f.question, f.answer, f.subject) for f in benchmark.forget] == [
        ("forget-0001", "Who is Ada?", "A gardener.", None)
    ]
    assert benchmark.protect == ()
    assert list(benchmark.splits) == ["forget"]
    assert any("nothing is protected" in note for note in benchmark.notes)


def test_every_optional_key_is_read(tmp_path: Path) -> None:
    (fact,) = _load(tmp_path, [FULL_ROW]).forget
    assert (fact.id, fact.subject, fact.group) == ("7", "Ada Velour", "Ada")
    assert fact.wrong_answers == ("She grows plums.", "She grows figs.")
    assert fact.paraphrased_answer == "She grows pears."
    tofu_row = {**FULL_ROW, "perturbed_answer": FULL_ROW["wrong_answers"], "subject": None}
    del tofu_row["wrong_answers"]
    (fact,) = _load(tmp_path, [tofu_row]).forget
    assert fact.wrong_answers == ("She grows plums.", "She grows figs.")
    assert fact.subject is None


def test_retained_groups_are_split_into_protected_near_and_unseen(tmp_path: Path) -> None:
    benchmark = _load(tmp_path, [FULL_ROW], _rows(40), near_authors=3)
    sizes = {name: len(rows) for name, rows in benchmark.splits.items()}
    assert sizes == {"forget": 1, "retain_protected": 29, "retain_near": 3, "retain_unseen": 8}
    unseen = {fact.group for fact in benchmark.splits["retain_unseen"]}
    assert not unseen & {fact.group for fact in benchmark.protect}
    assert len(benchmark.training) == 41


def test_unknown_keys_are_tolerated_and_told(tmp_path: Path) -> None:
    reporter = SilentReporter()
    write_jsonl(tmp_path / "f.jsonl", [{**FULL_ROW, "source": "web", "Answer2": 3}])
    load_benchmark(BenchmarkConfig(name="jsonl", path=str(tmp_path / "f.jsonl")), reporter)
    assert any("unused keys: Answer2, source" in note for note in reporter.notes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"question": None}, '"question" is null'),
        ({"answer": ""}, '"answer" is empty'),
        ({"answer": "  \n"}, '"answer" is empty'),
        ({"answer": 12}, '"answer" is a number, not a string'),
        ({"question": ["x"]}, '"question" is a list, not a string'),
        ({"group": True}, '"group" is a boolean, not a string'),
        ({"subject": "Bruno"}, "the subject 'Bruno' is not in the question"),
        ({"wrong_answers": "one"}, '"wrong_answers" is a string, not a list'),
        ({"wrong_answers": ["one", ""]}, '"wrong_answers" holds an empty string'),
        ({"wrong_answers": ["one", 2]}, '"wrong_answers" holds a number'),
        ({"paraphrased_answer": ""}, '"paraphrased_answer" is empty'),
    ],
)
def test_a_bad_value_is_named_by_file_and_line(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        _load(tmp_path, [{"question": "Fine?", "answer": "Yes."}, {**FULL_ROW, **change}])
    assert caught.value.message.startswith(f"{tmp_path / 'forget.jsonl'}:2: ")
    assert complaint in caught.value.message
    assert caught.value.hint


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'forget\.jsonl:1: "answer" is missing'):
        _load(tmp_path, [{"question": "Who?", "anser": "typo"}])


def test_malformed_lines_of_the_retain_file_are_named_too(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [FULL_ROW])
    (tmp_path / "r.jsonl").write_text(json.dumps({"question": "a", "answer": "b"}) + "\n{bad\n", "utf-8")
    with pytest.raises(UserError, match=r"r\.jsonl:2: not valid JSON"):
        load_benchmark(
            BenchmarkConfig(name="jsonl", path=str(tmp_path / "f.jsonl"), retain_path=str(tmp_path / "r.jsonl"))
        )


def test_no_file_an_empty_file_and_no_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a file of facts to forget"):
        load_benchmark(BenchmarkConfig(name="jsonl"))
    with pytest.raises(UserError, match="does not exist"):
        load_benchmark(BenchmarkConfig(name="jsonl", path=str(tmp_path / "none.jsonl")))
    with pytest.raises(UserError, match="the forget set is empty"):
        _load(tmp_path, [])


def test_forgetting_and_retaining_the_same_question_is_refused(tmp_path: Path) -> None:
    for share in (0.0, 1.0):  # whether the row would be protected or only scored
        with pytest.raises(UserError, match=r"1 question\(s\) are in the forget set and among the rows to keep"):
            _load(
                tmp_path,
                [FULL_ROW],
                [*_rows(4), {"question": "what does ada velour grow", "answer": "x"}],
                unseen_share=share,
            )


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="repeated id"):
        _load(tmp_path, [{**FULL_ROW, "id": "a"}], [{"id": "a", "question": "Other?", "answer": "b"}])


def test_answers_that_rouge_cannot_judge_are_told_when_they_are_read(tmp_path: Path) -> None:
    rows = [{"question": "Who is Ada?", "answer": "林若水。"}, {"question": "How is Ada?", "answer": "🙂"}]
    told = [note for note in _load(tmp_path, rows).notes if "without a word" in note]
    assert len(told) == 1
    assert "1 of forget; the first is forget-0002: '🙂'" in told[0]
    assert not any("without a word" in note for note in _load(tmp_path, rows[:1]).notes)
