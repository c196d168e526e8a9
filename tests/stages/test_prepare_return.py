"""Making RETURN's splits for a model: whom it knows, how they are split, and that an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.benchmarks.parts.construction import (
    Person,
    Question,
    known_people,
    made_up_questions,
    read_people,
    split_people,
    split_questions,
)
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.evaluation import EvalConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.stages.shared import asking, prepare_people
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import read_jsonl, write_jsonl

Row = dict[str, Any]


def person(number: int, questions: int = 20) -> Person:
    name = f"Person{chr(65 + number)} Hill"
    return Person(
        name, tuple(Question(f"{number}-{i}", f"What is fact {i} of {name}?", f"It is {i}.") for i in range(questions))
    )


def raw(number: int, questions: int = 4) -> Row:
    someone = person(number, questions)
    asked = [{"question": f"{q.question[:-1]} in {number}?", "answer": q.answer} for q in someone.questions]
    return {"name": someone.name, "qa_list": asked}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    write_jsonl(tmp_path / "RETURN.jsonl", [raw(number) for number in range(6)])
    return Experiment(
        model=ModelConfig(
            name="tiny", path=str(save_folder(tiny_llama(), tmp_path / "model")), instruction="Tell: {question}"
        ),
        benchmark=BenchmarkConfig(
            name="return", implementation="return_qa", split="all", path=str(tmp_path / "RETURN.jsonl")
        ),
        eval=EvalConfig(nli="stub", batch_size=4),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A judge for whom every answer about PersonF Hill is wrong; the pairs that it was shown."""
    shown: list[tuple[str, str]] = []

    def classify(self: Judges, pairs: Sequence[tuple[str, str]]) -> list[str]:
        shown.extend(pairs)
        return ["contradiction" if "PersonF Hill" in premise else "neutral" for premise, _ in pairs]

    monkeypatch.setattr(Judges, "classify", classify)
    monkeypatch.setattr(prepare_people, "NEW_TOKENS", 8)
    return shown


def make(experiment: Experiment) -> Artefact:
    return Pipeline(experiment, SilentReporter()).make("prepare")


def test_a_person_is_known_from_four_right_answers_in_five() -> None:
    people = [person(0), person(1)]
    right = {f"0-{i}" for i in range(16)} | {f"1-{i}" for i in range(15)}
    assert known_people(people, right) == people[:1]


def test_a_tenth_is_forgotten_and_the_seed_decides_who() -> None:
    people = [person(number) for number in range(26)]
    forget, retain = split_people(people, 0)
    assert (len(forget), len(retain)) == (2, 24)
    assert {p.name for p in (*forget, *retain)} == {p.name for p in people}
    assert split_people(people[::-1], 0)[0] == forget
    assert any(split_people(people, seed)[0] != forget for seed in (1, 2, 3))
    assert len(split_people(people[:3], 0)[0]) == 1
    with pytest.raises(UserError, match="knows 1 of these people well enough"):
        split_people(people[:1], 0)


def test_questions_are_split_in_halves_that_share_nothing() -> None:
    train, scored = split_questions(person(0), 0)
    assert (len(train), len(scored)) == (10, 10)
    assert {q.key for q in (*train, *scored)} == {q.key for q in person(0).questions}
    assert [q.key for q in train] != [f"0-{i}" for i in range(10)]


def test_made_up_questions_are_those_of_others_with_the_name_in_place() -> None:
    ada = Person("Ada Velour", (Question("9-0", "Does Ada Velour sing?", "Yes."), Question("9-1", "Why?", "So.")))
    people = [person(0, 4), ada]
    train = {p.name: p.questions for p in people}
    found = made_up_questions(train, people, 0)
    assert found["PersonA Hill"] == ["Does PersonA Hill sing?"]
    assert sorted(found["Ada Velour"]) == [f"What is fact {i} of Ada Velour?" for i in range(4)]
    many = [person(number, 20) for number in range(3)]
    assert all(len(asked) <= 10 for asked in made_up_questions({p.name: p.questions for p in many}, many, 0).values())


def test_people_are_read_strictly_and_repetitions_are_told() -> None:
    notes: list[str] = []
    twice = {
        **raw(0),
        "qa_list": [*raw(0)["qa_list"], {"question": "what is fact 0 of PersonA Hill in 0", "answer": "x"}],
    }
    assert [len(p.questions) for p in read_people([("f:1", twice), ("f:2", raw(0))], notes)] == [4]
    assert len(notes) == 2
    for row, complaint in (
        ({"name": "Ada", "qa_list": []}, "f:1: 'Ada' has no questions and answers"),
        ({"name": "Ada"}, 'f:1: "qa_list" is not a list'),
        ({"qa_list": []}, 'f:1: "name" is missing'),
        ({"name": "Ada", "qa_list": [{"question": "Who?"}]}, 'f:1 question 1: "answer" is missing'),
    ):
        with pytest.raises(UserError, match=complaint):
            read_people([("f:1", row)], [])


@pytest.mark.slow
def test_the_folder_is_what_the_benchmark_reads(experiment: Experiment, judged: list[tuple[str, str]]) -> None:
    made = make(experiment)
    assert {key: made.manifest["summary"][key] for key in ("people", "known", "forget", "retain", "right")} == {
        "people": 6, "known": 5, "forget": 1, "retain": 4, "right": 0.8333,
    }  # fmt: skip
    config = BenchmarkConfig(name="return", implementation="return_qa", split="all", data_dir=str(made.path))
    benchmark = load_benchmark(config)
    check_model(benchmark, config, experiment.model)
    with pytest.raises(UserError, match="these splits were made for"):
        check_model(benchmark, config, ModelConfig(path="meta-llama/Meta-Llama-3-8B-Instruct"))
    assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
        "forget": 2, "forget_eval": 2, "retain_protected": 8, "retain_unseen": 8,
    }  # fmt: skip
    assert not any(fact.group == "PersonF Hill" for fact in (*benchmark.forget, *benchmark.protect))
    augmented = load_benchmark(BenchmarkConfig(**{**vars(config), "augmented": True}))
    assert len(augmented.protect) > len(benchmark.protect)
    row = read_jsonl(made.path / "forget_train.jsonl")[0]
    assert row.keys() == {"name", "question", "answer", "pred_answer", "nli_label"}


def test_the_judge_sees_the_question_with_the_true_and_with_the_given_answer(
    experiment: Experiment, judged: list[tuple[str, str]]
) -> None:
    made = make(experiment)
    said = {row["key"]: row["text"] for row in read_jsonl(made.path / "predictions.jsonl")}
    question = raw(0)["qa_list"][0]
    assert (f"{question['question']} {question['answer']}", f"{question['question']} {said['0-0']}".rstrip()) in [
        (premise, hypothesis.rstrip()) for premise, hypothesis in judged
    ]


def test_an_interrupted_run_asks_only_what_is_left(
    experiment: Experiment, judged: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "CHUNK", 5)
    asked: list[int] = []
    real = asking.asked

    def counting(stop_after: int) -> Any:
        def make_answer(*arguments: Any) -> Any:
            answer = real(*arguments)

            def one(questions: Sequence[asking.Wording]) -> list[str]:
                if len(asked) >= stop_after:
                    raise KeyboardInterrupt
                asked.append(len(questions))
                return answer(questions)

            return one

        return make_answer

    monkeypatch.setattr(asking, "asked", counting(2))
    with pytest.raises(KeyboardInterrupt):
        make(experiment)
    monkeypatch.setattr(asking, "asked", counting(10**6))
    made = make(experiment)
    assert sum(asked) == 6 * 4 + len(read_jsonl(made.path / "made_up.jsonl"))
    assert made.manifest["resumed"]


def test_without_a_judge_nothing_is_asked(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_people, "load_base", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="a judge is needed to find out what the model knows") as caught:
        make(with_settings(experiment, eval__nli=None))
    assert "eval.nli=" in caught.value.hint


def test_a_missing_file_is_refused(experiment: Experiment, judged: list[tuple[str, str]]) -> None:
    with pytest.raises(UserError, match=r"benchmark.path=/nowhere/RETURN\.jsonl is not a file"):
        make(with_settings(experiment, benchmark__path="/nowhere/RETURN.jsonl"))


def test_it_asks_as_the_protocol_of_that_name_does() -> None:
    protocol = compose(["protocol=return"])
    assert protocol.model.instruction == prepare_people.INSTRUCTION
    assert protocol.protocol.max_new_tokens == prepare_people.NEW_TOKENS
    assert prepare_people.as_return_asks(compose([])).model.instruction == prepare_people.INSTRUCTION
