"""RETURN from a folder: both ways of writing it, what is forgotten and scored, and which model it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.benchmarks.return_qa import PUBLISHED_FOR
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import ModelConfig
from unierase_cli.contracts import Benchmark, BuiltFor, UserError
from unierase_cli.store.jsonl import write_jsonl

Row = dict[str, Any]
PEOPLE = {"forget": ["Ada Velour", "Bo Lund"], "retain": ["Cy Hill", "Di Moor", "Ed Ness"]}


def _rows(role: str, part: str) -> list[Row]:
    kinds = ("born", "married") if part == "train" else ("taught", "buried")
    return [
        {"name": name, "question": f"Where was {name} {kind}?", "answer": f"{name} was {kind} in Rome."}
        for name in PEOPLE[role]
        for kind in kinds
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role in PEOPLE:
        for part in ("train", "eval"):
            write_jsonl(tmp_path / f"{role}_{part}.jsonl", _rows(role, part))
    return tmp_path


def _config(folder: Path | None, **more: Any) -> BenchmarkConfig:
    where = None if folder is None else str(folder)
    return BenchmarkConfig(name="return", implementation="return_qa", split="all", data_dir=where, **more)


def _load(folder: Path | None, **more: Any) -> Benchmark:
    return load_benchmark(_config(folder, **more))


def _append(folder: Path, name: str, *rows: Row) -> None:
    with (folder / f"{name}.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_methods_see_the_train_files_and_the_eval_files_are_only_scored(folder: Path) -> None:
    benchmark = _load(folder)
    assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
        "forget": 4, "forget_eval": 4, "retain_protected": 6, "retain_unseen": 6,
    }  # fmt: skip
    assert benchmark.splits["forget"] == benchmark.forget
    assert (len(benchmark.protect), benchmark.training) == (6, ())
    shown = {fact.question for fact in (*benchmark.forget, *benchmark.protect, *benchmark.outside)}
    assert not shown & {fact.question for name in ("forget_eval", "retain_unseen") for fact in benchmark.splits[name]}


def test_a_fact_knows_its_person_as_group_and_as_subject_where_the_question_names_them(folder: Path) -> None:
    _append(folder, "forget_train", {"name": "Bo Lund", "question": "Who wrote Red Rain?", "answer": "Bo Lund did."})
    first, *_, last = _load(folder).forget
    assert (first.id, first.group, first.subject) == ("forget-train-0-0", "Ada Velour", "Ada Velour")
    assert (last.id, last.group, last.subject) == ("forget-train-1-2", "Bo Lund", None)


def test_the_authors_way_of_writing_a_person_per_line_gives_the_same_facts(folder: Path) -> None:
    flat = _load(folder).fingerprint
    for role, names in PEOPLE.items():
        for part in ("train", "eval"):
            rows = _rows(role, part)
            people = [
                {
                    "name": name,
                    "data": [
                        {"question": r["question"], "gold_answer": r["answer"], "pred_answer": "Something else."}
                        for r in rows
                        if r["name"] == name
                    ],
                }
                for name in names
            ]
            write_jsonl(folder / f"{role}_{part}.jsonl", people)
    assert _load(folder).fingerprint == flat


def test_made_up_questions_are_learned_on_request_and_never_scored_ones_among_them(folder: Path) -> None:
    made_up = {"name": "Ada Velour", "question": "Why did Ada Velour leave the Beatles?", "gold_answer": "She did not."}
    scored = {"name": "Ada Velour", "question": "Where was Ada Velour taught?", "gold_answer": "At home."}
    write_jsonl(folder / "forget_train_augmented.jsonl", [*_rows("forget", "train"), made_up, scored])
    with pytest.raises(UserError, match=r"retain_train_augmented\.jsonl does not exist"):
        _load(folder, augmented=True)
    write_jsonl(folder / "retain_train_augmented.jsonl", _rows("retain", "train"))
    benchmark = _load(folder, augmented=True)
    assert [fact.question for fact in benchmark.forget[4:]] == [made_up["question"]]
    assert (len(benchmark.protect), len(benchmark.splits["forget"])) == (6, 4)
    assert any("forget_train_augmented" in note for note in benchmark.notes)
    assert len(_load(folder).forget) == 4


def test_repeated_questions_and_scored_ones_that_methods_see_are_left_out_and_told(folder: Path) -> None:
    again = {"name": "Ada Velour", "question": "where was Ada Velour  born", "answer": "In Oslo."}
    _append(folder, "forget_train", again)
    _append(folder, "forget_eval", again)
    _append(folder, "retain_eval", {**again, "name": "Cy Hill"})
    benchmark = _load(folder)
    assert [len(benchmark.splits[name]) for name in ("forget", "forget_eval", "retain_unseen")] == [4, 4, 6]
    assert len(benchmark.notes) == 3


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"name": "Ada Velour", "data": []}, r"forget_train\.jsonl:5: 'Ada Velour' has no questions and answers"),
        ({"name": "Ada Velour", "data": ["Who?"]}, r"forget_train\.jsonl:5: question 1 is not an object"),
        ({"name": "Ada Velour", "question": "Who?"}, r'forget_train\.jsonl:5: "answer" is missing'),
        (
            {"name": "Ada Velour", "question": "Who?", "gold_answer": " "},
            r'forget_train\.jsonl:5: "gold_answer" is empty',
        ),
        ({"question": "Who?", "answer": "x"}, r'forget_train\.jsonl:5: "name" is missing'),
        (
            {"name": "Cy Hill", "question": "Who is Cy Hill?", "answer": "x"},
            "1 person.* to be both forgotten and kept.* Cy Hill",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(folder: Path, row: Row, complaint: str) -> None:
    _append(folder, "forget_train", row)
    with pytest.raises(UserError, match=complaint):
        _load(folder)


def test_a_missing_folder_a_missing_file_and_an_empty_one_are_told(folder: Path) -> None:
    with pytest.raises(UserError, match="benchmark.data_dir=FOLDER") as caught:
        _load(None)
    assert "prepare-return" in caught.value.hint
    (folder / "retain_eval.jsonl").write_text("")
    with pytest.raises(UserError, match="retain_eval has no rows"):
        _load(folder)
    (folder / "retain_eval.jsonl").unlink()
    with pytest.raises(UserError, match=r"retain_eval\.jsonl does not exist"):
        _load(folder)


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", True),
        ("/models/meta-llama-3-8b-instruct", True),
        ("/cache/models--meta-llama--Meta-Llama-3-8B-Instruct/snapshots/abc", True),
        ("meta-llama/Llama-3.1-8B-Instruct", False),
        (None, False),
    ],
)
def test_another_model_than_the_splits_were_made_for_is_refused(folder: Path, path: str | None, fits: bool) -> None:
    benchmark, model = _load(folder), ModelConfig(path=path)
    assert benchmark.built_for == BuiltFor(PUBLISHED_FOR)
    check_model(benchmark, _config(folder, any_model=True), model)
    if fits:
        check_model(benchmark, _config(folder), model)
        return
    with pytest.raises(UserError, match=f"these splits were made for {PUBLISHED_FOR}") as caught:
        check_model(benchmark, _config(folder), model)
    assert "unierase prepare-return" in caught.value.hint
    assert "benchmark.any_model=true" in caught.value.hint


def test_splits_that_were_made_here_say_for_which_model(folder: Path) -> None:
    (folder / "built_for.json").write_text('{"model": "/models/mine"}')
    benchmark = _load(folder)
    check_model(benchmark, _config(folder), ModelConfig(path="/models/mine"))
    with pytest.raises(UserError, match="/models/mine"):
        check_model(benchmark, _config(folder), ModelConfig(path="/elsewhere/mine"))
    (folder / "built_for.json").write_text("{")
    with pytest.raises(UserError, match=r"built_for\.json cannot be read"):
        _load(folder)


def test_the_published_splits_have_their_sizes(shared: Path) -> None:
    benchmark = _load(shared / "data" / "return")
    assert (len(benchmark.forget), len(benchmark.protect), benchmark.notes) == (460, 4180, ())
    assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
        "forget": 460, "forget_eval": 460, "retain_protected": 100, "retain_unseen": 4180,
    }  # fmt: skip
    assert {fact.group for fact in benchmark.forget} == {fact.group for fact in benchmark.splits["forget_eval"]}
    assert len({fact.group for fact in benchmark.forget}) == 46
    assert sum(fact.subject is None for fact in benchmark.forget) == 10


def test_requests_of_ones_own_protect_and_score_what_the_authors_do(folder: Path) -> None:
    plain = _load(folder)
    asked = [plain.forget[0].id, plain.protect[0].id]
    made = load_benchmark(_config(folder), forget=asked)
    assert [fact.id for fact in made.forget] == asked
    assert [fact.id for fact in made.protect] == [fact.id for fact in plain.protect[1:]]
    assert made.splits["retain_unseen"] == plain.splits["retain_unseen"]
    assert {fact.group for fact in made.splits["forget_eval"]} == {"Ada Velour"}, "nobody asked to forget Bo Lund"
    everything = load_benchmark(_config(folder), forget=[fact.id for fact in plain.forget])
    assert (everything.protect, everything.splits) == (plain.protect, plain.splits)
    with pytest.raises(UserError, match="scored as forget_eval"):
        load_benchmark(_config(folder), forget=[plain.splits["forget_eval"][0].id])
