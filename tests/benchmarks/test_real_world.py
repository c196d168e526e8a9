"""Closer-look's real people: long answers to learn from, golden answers to score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, UserError
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages.shared.fact_rows import fact_rows
from unierase_cli.store.jsonl import read_jsonl, write_jsonl

Row = dict[str, Any]


def _rows(*names: str) -> list[Row]:
    return [
        {
            "name": name,
            "question": f"When was {name} {kind}?",
            "answer": f"Well, {name} was {kind} long ago, as everyone knows.",
            "golden_answer": f"{name} was {kind} in 1900.",
        }
        for name in names
        for kind in ("born", "married")
    ]


def _perturbed(rows: list[Row]) -> list[Row]:
    further = {"paraphrased_answer": "In 1900.", "perturbed_answer": ["In 1901."] * 5, "paraphrased_question": "?"}
    return [{**row, **further} for row in rows]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    forget, neighbours = _rows("Ada Velour", "Bo Lund"), _rows("Cy Hill", "Di Moor")
    write_jsonl(tmp_path / "forget.jsonl", forget)
    write_jsonl(tmp_path / "forget_perturbed.jsonl", _perturbed(forget[::-1]))
    write_jsonl(tmp_path / "neighbor.jsonl", neighbours)
    write_jsonl(tmp_path / "neighbor_perturbed.jsonl", _perturbed(_rows("Ed Ness")))
    return tmp_path


def _load(folder: Path | None, **more: Any) -> Benchmark:
    where = None if folder is None else str(folder)
    return load_benchmark(BenchmarkConfig(name="real_world", split="all", data_dir=where, **more))


def test_a_forgotten_fact_and_the_scored_one_share_an_id_and_differ_in_the_answer(folder: Path) -> None:
    benchmark = _load(folder)
    scored = {fact.id: fact for fact in benchmark.splits["forget"]}
    assert scored.keys() == {fact.id for fact in benchmark.forget}
    for fact in benchmark.forget:
        assert fact.answer.startswith("Well, ")
        assert scored[fact.id].answer.endswith(" in 1900.")
        assert (scored[fact.id].question, scored[fact.id].group) == (fact.question, fact.group)
    assert all(len(fact.wrong_answers) == 5 for fact in scored.values())


def test_methods_may_learn_the_golden_answers_instead(folder: Path) -> None:
    benchmark = _load(folder, train_on="golden_answer")
    assert all(fact.answer.endswith(" in 1900.") for fact in (*benchmark.forget, *benchmark.protect))
    with pytest.raises(UserError, match="benchmark.train_on=gold is not a choice"):
        BenchmarkConfig(train_on="gold")


def test_neighbours_are_protected_and_other_people_are_never_seen(folder: Path) -> None:
    benchmark = _load(folder, protected_scored=3)
    assert {fact.group for fact in benchmark.protect} == {"Cy Hill", "Di Moor"}
    assert {fact.group for fact in benchmark.splits["retain_unseen"]} == {"Ed Ness"}
    protected = benchmark.splits["retain_protected"]
    assert len(protected) == 3
    assert {fact.id for fact in protected} <= {fact.id for fact in benchmark.protect}
    assert all(fact.answer.endswith(" in 1900.") for fact in (*protected, *benchmark.splits["retain_unseen"]))


def test_subjects_come_from_the_file_else_from_the_name(folder: Path) -> None:
    rows = read_jsonl(folder / "forget.jsonl")
    rows[1]["subject"] = "When"
    rows[2]["question"] = "Who is that?"
    write_jsonl(folder / "forget.jsonl", rows)
    write_jsonl(folder / "forget_perturbed.jsonl", _perturbed(rows))
    assert [fact.subject for fact in _load(folder).forget] == ["Ada Velour", "When", None, "Bo Lund"]


def test_files_of_the_authors_repository_may_be_called_json(folder: Path) -> None:
    before = _load(folder).fingerprint
    for path in folder.glob("*.jsonl"):
        path.rename(path.with_suffix(".json"))
    assert _load(folder).fingerprint == before


def test_what_does_not_fit_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="benchmark.data_dir=FOLDER"):
        _load(None)
    write_jsonl(folder / "forget.jsonl", _rows("Ada Velour"))
    with pytest.raises(UserError, match="forget_perturbed has a question that is not in forget"):
        _load(folder)
    write_jsonl(folder / "forget.jsonl", [{**row, "golden_answer": None} for row in _rows("Ada Velour", "Bo Lund")])
    with pytest.raises(UserError, match=r'forget\.jsonl:1: "golden_answer" is null'):
        _load(folder, train_on="golden_answer")
    (folder / "neighbor.jsonl").write_text("")
    write_jsonl(folder / "forget.jsonl", _rows("Ada Velour", "Bo Lund"))
    with pytest.raises(UserError, match="neighbor has no rows"):
        _load(folder)
    (folder / "neighbor.jsonl").unlink()
    with pytest.raises(UserError, match=r"neighbor\.jsonl does not exist"):
        _load(folder)


def test_repeated_ids_can_not_come_from_a_repeated_question(folder: Path) -> None:
    rows = read_jsonl(folder / "forget_perturbed.jsonl")
    write_jsonl(folder / "forget_perturbed.jsonl", [*rows, rows[0]])
    with pytest.raises(UserError, match=r"repeated id\(s\) in forget, the first is 'forget-003'"):
        _load(folder)


def test_the_real_files_have_twenty_people_thrice(shared: Path) -> None:
    benchmark = _load(shared / "data" / "real_world")
    assert (len(benchmark.forget), len(benchmark.protect), benchmark.notes) == (400, 400, ())
    assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
        "forget": 400, "retain_protected": 100, "retain_unseen": 400,
    }  # fmt: skip
    people = [
        {fact.group for fact in rows}
        for rows in (benchmark.forget, benchmark.protect, benchmark.splits["retain_unseen"])
    ]
    assert [len(names) for names in people] == [20, 20, 20]
    assert len(set().union(*people)) == 60
    assert all(fact.subject for fact in benchmark.forget)
    learned = {fact.id: fact.answer for fact in benchmark.forget}
    assert sum(learned[fact.id] == fact.answer for fact in benchmark.splits["forget"]) == 16


def test_requests_of_ones_own_leave_the_rest_as_published(folder: Path) -> None:
    plain = _load(folder)
    asked = [plain.forget[0].id, plain.protect[0].id]
    made = load_benchmark(BenchmarkConfig(name="real_world", split="all", data_dir=str(folder)), forget=asked)
    assert [fact.id for fact in made.forget] == asked
    assert all(fact.answer.startswith("Well, ") for fact in (*made.forget, *made.protect))
    assert all(fact.answer.endswith(" in 1900.") for rows in made.splits.values() for fact in rows)
    assert [f.id for f in made.protect] == [f.id for f in plain.protect[1:]]
    assert made.splits["retain_unseen"] == plain.splits["retain_unseen"]
    assert {f.id for f in made.splits["retain_protected"]} == {f.id for f in plain.protect[1:]}
    assert "retain_near" not in made.splits


def test_facts_know_how_they_are_scored_whatever_the_cap_on_rows(folder: Path) -> None:
    capped = _load(folder, rows=1)
    assert len(capped.splits["forget"]) == 1
    assert all(capped.scored[fact.id].answer.endswith(" in 1900.") for fact in (*capped.forget, *capped.protect))
    config = Experiment(
        benchmark=BenchmarkConfig(name="real_world", split="all", data_dir=str(folder), rows=1), mode=ModeConfig("precise")
    )
    rows = fact_rows(study_of(config))
    assert len(rows) == 4
    assert all(fact.answer.endswith(" in 1900.") for row in rows for fact in (row.fact, *row.near))
