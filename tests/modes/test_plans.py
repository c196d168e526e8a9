"""Modes as plans: which facts are asked to be forgotten when, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_models import FACTS
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.rows import completion
from unierase_cli.config.counted import counted
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import Benchmark, Fact, UserError
from unierase_cli.modes import batch, precise, sequential
from unierase_cli.modes.base import MODES
from unierase_cli.modes.neighbours import asked_neighbours
from unierase_cli.modes.requests import read_tasks
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import erase
from unierase_cli.store.jsonl import write_jsonl

KEPT = Fact("kept", "What is kept?", "This.")
BENCHMARK = Benchmark("b", tuple(FACTS), (KEPT,), {"forget": tuple(FACTS)}, "")


def ids(steps: list[Any]) -> list[list[str]]:
    return [[fact.id for fact in step.forget] for step in steps]


def sequence(**changes: Any) -> list[Any]:
    return sequential.plan(BENCHMARK, ModeConfig("sequential", **changes))


def tasks_file(folder: Path, rows: list[Any]) -> str:
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_the_modes_are_found_by_their_files() -> None:
    assert MODES.names() == ["batch", "precise", "sequential"]


def test_batch_is_one_step() -> None:
    (step,) = batch.plan(BENCHMARK, ModeConfig())
    assert (step.forget, step.retain, step.forgotten_before) == (tuple(FACTS), (KEPT,), ())


def test_a_step_size_cuts_the_forget_set_in_its_order_and_the_last_request_may_be_smaller() -> None:
    steps = sequence(step_size=3)
    assert ids(steps) == [[f.id for f in FACTS[:3]], [f.id for f in FACTS[3:6]], [f.id for f in FACTS[6:]]]
    assert [len(step.forgotten_before) for step in steps] == [0, 3, 6]
    assert steps[2].forgotten_before == tuple(FACTS[:6])
    (told,) = sequential.remarks(BENCHMARK, ModeConfig("sequential", step_size=3))
    assert told == "8 facts make 3 requests of 2 to 3"


def test_a_step_that_is_left_out_was_never_asked_for() -> None:
    steps = sequence(step_size=3, leave_out=[1])
    assert ids(steps) == [[f.id for f in FACTS[:3]], [f.id for f in FACTS[6:]]]
    assert [step.index for step in steps] == [0, 1]
    assert steps[1].forgotten_before == tuple(FACTS[:3])
    told, _ = sequential.remarks(BENCHMARK, ModeConfig("sequential", step_size=3, leave_out=[1]))
    assert told == "step(s) 1 of 3 are left out: their facts are not forgotten, but are scored"


@pytest.mark.parametrize(("left_out", "said"), [([3], "names step 3, and there are 3 steps"), ([0, 1, 2], "leaves nothing")])
def test_leaving_out_a_step_that_there_is_not_is_refused(left_out: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sequence(step_size=3, leave_out=left_out)


def test_a_number_of_steps_makes_requests_that_are_equal_to_within_one() -> None:
    assert [len(step.forget) for step in sequence(steps=3)] == [2, 3, 3]
    assert [fact.id for step in sequence(steps=3) for fact in step.forget] == [f.id for f in FACTS]
    assert len(sequence()) == len(FACTS), "ten requests, but no more than there are facts"


def test_a_method_retains_what_is_never_forgotten_or_also_what_is_forgotten_later() -> None:
    assert [step.retain for step in sequence(steps=2)] == [(KEPT,), (KEPT,)]
    assert [step.retain for step in sequence(steps=2, retain="later")] == [(KEPT, *FACTS[4:]), (KEPT,)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"step_size": 0}, "mode.step_size=0 must be above 0"),
        ({"steps": -1}, "mode.steps=-1 must be above 0"),
        ({"step_size": 9}, "mode.step_size=9 is larger than the forget set"),
        ({"steps": 9}, "mode.steps=9 is more than the forget set has"),
        ({"steps": 2, "step_size": 4}, "both divide the forget set"),
        ({"suite": "forget01"}, "add mode.tasks=FILE"),
        ({"reference": "originl"}, "did you mean mode.reference=original"),
        ({"tasks": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
    ],
)
def test_a_cut_that_cannot_be_is_one_clear_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        sequence(**changes)


def test_tasks_come_from_a_file_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = [
        {"suite": "mine", "task_id": 2, "facts": ["p1-city"]},
        {"suite": "mine", "task_id": 1, "facts": ["p3-city", "p0-city"]},
        {"suite": "mine", "kind": "retain", "facts": ["p2-city"]},
        {"suite": "other", "task_id": 1, "facts": ["p2-genre"]},
    ]
    path = tasks_file(tmp_path, rows)
    assert ids(sequence(tasks=path, suite="mine")) == [["p3-city", "p0-city"], ["p1-city"]]
    assert ids(sequence(tasks=path, suite="mine", steps=1)) == [["p3-city", "p0-city"]]
    for changes, told in (
        ({}, "has the suites mine, other"),
        ({"suite": "mien"}, "did you mean mode.suite=mine"),
        ({"suite": "mine", "steps": 5}, "has 2 requests"),
    ):
        with pytest.raises(UserError, match=told):
            sequence(tasks=path, **changes)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"task_id": 1}, "tasks.jsonl:1: needs `facts`, a list of ids, or `full_index`"),
        ({"facts": "p0-city"}, "tasks.jsonl:1: needs"),
        ({"full_index": ["3960"]}, "tasks.jsonl:1: needs"),
        ({"facts": []}, "the request has no facts"),
        ({"task_id": "first", "facts": ["p0-city"]}, "task_id 'first' is not a number"),
        ({"kind": "retain", "facts": ["p0-city"]}, "has no forget requests"),
    ],
)
def test_a_malformed_file_of_tasks_is_told_by_line(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        read_tasks(ModeConfig("sequential", tasks=tasks_file(tmp_path, [row])))


def test_a_repeated_request_is_skipped_and_said_and_a_second_answer_is_refused(tmp_path: Path) -> None:
    again = replace(FACTS[0], id="again", question=FACTS[0].question.upper())
    benchmark = replace(BENCHMARK, forget=(*FACTS[:2], again))
    config = ModeConfig("sequential", step_size=1)
    assert ids(sequential.plan(benchmark, config)) == [["p0-city"], ["p0-genre"]]
    told = sequential.remarks(benchmark, config)
    assert "again of step 3 is in step 1" in told[0]
    assert "step 3 only repeats earlier requests" in told[1]
    other = replace(benchmark, forget=(*FACTS[:2], replace(again, answer="Ada Velour was born in Rome.")))
    with pytest.raises(UserError, match="steps 1 and 3 ask to forget one question with two answers.*p0-city and again"):
        sequential.plan(other, config)
    twice = tasks_file(tmp_path, [{"facts": ["p0-city", "p0-city"]}, {"facts": ["p0-city", "p1-city"]}])
    assert ids(sequence(tasks=twice)) == [["p0-city"], ["p1-city"]]


def test_a_repeated_row_of_the_forget_set_is_forgotten_once_in_every_mode_and_said() -> None:
    wide = FACTS[0].question.replace("?", "？")
    repeats = [replace(FACTS[0], id="wide", question=wide), replace(FACTS[0], id="answer", answer=FACTS[0].answer.upper())]
    benchmark = replace(BENCHMARK, forget=(*FACTS, *repeats))
    every = [fact.id for fact in FACTS]
    for mode, steps in ((batch, [every]), (precise, [[name] for name in every])):
        config = ModeConfig(mode.__name__.rpartition(".")[2])
        assert ids(mode.plan(benchmark, config)) == steps
        (told,) = mode.remarks(benchmark, config)
        assert told == "2 repeated fact(s) are forgotten once: wide repeats p0-city; answer repeats p0-city"
        assert mode.remarks(BENCHMARK, config) == []


def test_what_a_batch_forgets_of_repeated_rows_is_in_its_key(tmp_path: Path) -> None:
    def steps(*rows: Fact) -> str:
        path = tmp_path / f"{rows[0].id}-{len(rows)}.jsonl"
        write_jsonl(path, [{"id": fact.id, "question": fact.question, "answer": fact.answer} for fact in rows])
        experiment = Experiment(benchmark=BenchmarkConfig(name="jsonl", split="all", path=str(path)))
        return erase.fingerprints(study_of(experiment), {})["steps"]

    repeated = steps(*FACTS, replace(FACTS[0], id="again"))
    assert repeated == steps(*FACTS)
    assert repeated != steps(*FACTS[1:], replace(FACTS[0], id="again"))


def test_one_question_with_two_answers_is_refused_in_every_mode_by_the_names_of_its_rows() -> None:
    other = replace(FACTS[0], id="other", answer="Ada Velour was born in Rome.")
    benchmark = replace(BENCHMARK, forget=(*FACTS, other))
    for mode in (batch, precise):
        with pytest.raises(UserError, match="the forget set asks .* two answers.*p0-city and other") as caught:
            mode.plan(benchmark, ModeConfig(mode.__name__.rpartition(".")[2]))
        assert "leave one of them out" in caught.value.hint
    with pytest.raises(UserError, match="p0-city and other"):
        sequential.plan(benchmark, ModeConfig("sequential", steps=3))


def test_plain_texts_that_begin_alike_are_different_texts() -> None:
    text = completion(replace(FACTS[0], id="text", question="Ada Velour, born in Tallis,", answer=" wrote two books."))
    other, again = replace(text, id="other", answer=" wrote songs."), replace(text, id="again")
    benchmark = replace(BENCHMARK, forget=(text, other, again))
    assert ids(batch.plan(benchmark, ModeConfig("batch"))) == [["text", "other"]]
    assert batch.remarks(benchmark, ModeConfig("batch")) == ["1 repeated fact(s) are forgotten once: again repeats text"]


def test_precise_is_a_step_per_fact_from_the_original_model() -> None:
    assert precise.INDEPENDENT
    assert ids(precise.plan(BENCHMARK, ModeConfig("precise", limit=3))) == [[f.id] for f in FACTS[:3]]
    assert len(precise.plan(BENCHMARK, ModeConfig("precise"))) == len(FACTS)
    named = ModeConfig("precise", facts=["p2-city", "p0-city", "p2-city"])
    steps = precise.plan(BENCHMARK, named)
    assert ids(steps) == [["p2-city"], ["p0-city"]]
    assert all(step.forgotten_before == () for step in steps)
    assert "names 1 fact(s) twice" in precise.remarks(BENCHMARK, named)[0]
    with pytest.raises(UserError, match="'p2-cty' is not in the forget set.*p2-city"):
        precise.plan(BENCHMARK, ModeConfig("precise", facts=["p2-cty"]))
    with pytest.raises(UserError, match="mode.limit=9 is larger"):
        precise.plan(BENCHMARK, ModeConfig("precise", limit=9))
    with pytest.raises(UserError, match="both choose the facts"):
        ModeConfig("precise", facts=["p2-city"], limit=1)


def test_what_a_mode_does_not_read_enters_no_key() -> None:
    plain = counted(ModeConfig("precise", limit=4))
    assert (plain["name"], plain["limit"]) == ("precise", 4)
    assert counted(ModeConfig("precise", limit=4, near=9, far=0, hold=2, tasks="somewhere")) == plain
    assert counted(ModeConfig("precise", limit=5)) != plain


def test_a_benchmark_for_named_facts_protects_none_of_them() -> None:
    config = BenchmarkConfig(split="forget10", authors=20, questions=5, near_authors=2, unseen_authors=3)
    usual = load_benchmark(config)
    chosen = [fact.id for fact in (*usual.protect[:7], *usual.forget[:4])]
    found = load_benchmark(config, forget=chosen)
    assert [fact.id for fact in found.forget] == chosen
    assert [fact.id for fact in found.splits["forget"]] == chosen
    kept = {f.id for rows in (found.protect, found.outside, found.splits["retain_near"]) for f in rows}
    assert not kept & set(chosen)
    assert {f.id for f in usual.forget[4:]} <= kept, "what the split forgets and nobody asks for is retained"
    assert not {f.id for f in found.outside} & {f.id for f in usual.forget}
    assert found.splits["retain_unseen"] == usual.splits["retain_unseen"]
    assert found.fingerprint != usual.fingerprint
    with pytest.raises(UserError, match="has no fact 'author-0'"):
        load_benchmark(config, forget=["author-0"])
    with pytest.raises(UserError, match="scored as retain_unseen"):
        load_benchmark(config, forget=[usual.splits["retain_unseen"][0].id])


@pytest.mark.parametrize(("suite", "requests", "size"), [("forget01", 10, 40), ("forget05", 10, 200), ("forget10", 9, 400)])
def test_tofus_continual_tasks(suite: str, requests: int, size: int, shared: Path) -> None:
    folder = shared / "data" / "tofu"
    mode = ModeConfig("sequential", tasks=str(folder / "continual_tasks.jsonl"), suite=suite)
    tasks = read_tasks(mode)
    assert tasks is not None
    config = BenchmarkConfig(name="tofu", split="forget01", data_dir=str(folder))
    benchmark = load_benchmark(config, forget=[name for task in tasks for name in task])
    steps = sequential.plan(benchmark, mode)
    assert [len(step.forget) for step in steps] == [size] * requests
    assert {"full-3960", "full-3999"} <= {fact.id for fact in steps[0].forget}
    never = {f"full-{n}" for n in range(400)}
    assert not never & {fact.id for step in steps for fact in step.forget}
    assert {f.id for f in benchmark.splits["retain_unseen"]} <= never
    forgotten = {f.id for f in benchmark.forget}
    assert not forgotten & {f.id for f in (*benchmark.protect, *benchmark.outside)}
    assert not {f.group for f in benchmark.splits["retain_unseen"]} & {f.group for f in benchmark.protect}
    assert min(len(benchmark.protect), len(benchmark.outside)) >= 50, "there is something to retain in the longest suite, too"
    assert len(forgotten) == size * requests
    assert sum(bool(f.wrong_answers) for f in benchmark.splits["forget"]) == size * requests


def test_what_no_method_is_to_see_is_not_held_but_asked() -> None:
    group = [Fact(f"g{n}", f"What is the {n}th?", f"It is {n}.", group="one") for n in range(6)]
    unseen = Fact("unseen", "What is it otherwise?", "Something.", group="one")
    found = Benchmark("b", tuple(group), (KEPT,), {"forget": tuple(group), "retain_unseen": (unseen,)}, "")
    config = ModeConfig("precise", hold=9, near=9)
    (first, *_) = precise.plan(found, config)
    assert len(first.hold) == 3, "two thirds of five others, rounded down"
    asked = asked_neighbours(found, group[0], config)
    assert unseen in asked
    assert not set(asked) & set(first.hold)
    assert {*asked, *first.hold} == {*group[1:], unseen}


def test_steps_are_counted_without_requests_that_ask_for_nothing_new(tmp_path: Path) -> None:
    rows = [{"task_id": n, "facts": [FACTS[f].id]} for n, f in enumerate((0, 0, 1, 2))]
    config = ModeConfig("sequential", tasks=tasks_file(tmp_path, rows), leave_out=[1])
    assert ids(sequential.plan(BENCHMARK, config)) == [[FACTS[0].id], [FACTS[2].id]]
    assert any(told.startswith("step(s) 1 of 3 are left out") for told in sequential.remarks(BENCHMARK, config))
