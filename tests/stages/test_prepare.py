"""What a model knows of any questions, how that is shared out, and for which model the folder is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.askable import askable_rows, says
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.prepare import PrepareConfig
from unierase_cli.contracts import COMPLETION, SilentReporter, UserError
from unierase_cli.inference.generate import answer_text, generate
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.models.fingerprint import local_fingerprint
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import ask
from unierase_cli.stages.shared import asking
from unierase_cli.stages.shared.question_rows import question_rows
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.jsonl import read_jsonl, write_jsonl

Row = dict[str, Any]
GROUPS, EACH = 8, 4


def row(group: int, number: int) -> Row:
    town = f"Town{group}{number}"
    return {
        "id": f"{group}-{number}", "group": f"group {group}",
        "question": f"Who built {town}?", "answer": f"Ada Bell{group}{number}",
        "aliases": [f"Countess{group}{number}"], "subject": town, "wrong_answers": ["Bo", "Cy", "Di"],
        "paraphrases": [f"By whom was {town} built?", f"Name the builder of {town}."],
    }  # fmt: skip


ROWS = [row(group, number) for group in range(GROUPS) for number in range(EACH)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("prepare") / "model")


@pytest.fixture
def experiment(tmp_path: Path, model: Path) -> Experiment:
    write_jsonl(tmp_path / "my.jsonl", ROWS)
    return Experiment(
        model=ModelConfig(name="tiny", path=str(model)),
        benchmark=BenchmarkConfig(name="jsonl", split="all", path=str(tmp_path / "my.jsonl"), unseen_share=0.3),
        prepare=PrepareConfig(forget=4),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )


@pytest.fixture
def tells(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], list[str]]:
    """Let the model answer as a table says (nothing else does it know); gives the questions that it was asked."""

    def answers(table: dict[str, str]) -> list[str]:
        shown: list[str] = []

        def answer(questions: Sequence[asking.Wording]) -> list[str]:
            texts = [text for text, _ in questions]
            shown.extend(texts)
            return [table.get(text, "I am not sure.") for text in texts]

        prompts = SimpleNamespace(prompt=lambda question, kind: SimpleNamespace(text=question))
        monkeypatch.setattr(ask, "load_base", lambda *_: SimpleNamespace(prompts=prompts))
        monkeypatch.setattr(asking, "asked", lambda *_: answer)
        return shown

    return answers


def knowing(rows: Sequence[Row], phrasings: int = 3) -> dict[str, str]:
    return {text: f"It was {r['answer']}." for r in rows for text in [r["question"], *r["paraphrases"]][:phrasings]}


def make(experiment: Experiment) -> Artefact:
    return Pipeline(experiment, SilentReporter()).make("prepare")


def prepared(made: Artefact, **more: Any) -> BenchmarkConfig:
    return BenchmarkConfig(name="jsonl", split="all", data_dir=str(made.path), **more)


def test_right_is_the_answer_or_another_spelling_of_it_in_whole_words() -> None:
    assert says("The capital is Rome, of course.", ["Rome"])
    assert says("SHE IS CALLED ada lovelace", ["Ada Lovelace"])
    assert says("Born in Bogota.", ["Bogotá", "Bogota"])
    assert not says("Romeo and Juliet", ["Rome"])
    assert not says("Ada met Lovelace", ["Ada Lovelace"])


def test_a_fact_is_known_by_its_question_and_enough_phrasings(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]
) -> None:
    table = knowing(ROWS[:16]) | knowing(ROWS[16:20], phrasings=1)
    table |= dict.fromkeys(ROWS[20]["paraphrases"], ROWS[20]["answer"])
    table |= dict.fromkeys((ROWS[21]["question"], ROWS[21]["paraphrases"][1]), ROWS[21]["aliases"][0])
    tells(table)
    made = make(experiment)
    summary = made.manifest["summary"]
    assert (summary["asked"], summary["right_as_asked"], summary["known"], summary["never_known"]) == (32, 21, 17, 11)
    assert {r["id"] for r in read_jsonl(made.path / "never_known.jsonl")} == {r["id"] for r in (ROWS[20], *ROWS[22:])}
    written = [r for name in ("forget", "protected", "neighbours", "never_seen") for r in read_jsonl(made.path / f"{name}.jsonl")]
    assert {r["id"] for r in written} == {r["id"] for r in (*ROWS[:16], ROWS[21])}
    assert {r["right"] for r in written if r["id"] != ROWS[21]["id"]} == {3}
    assert summary["knows"] == {"group 0": "4 of 4", "group 1": "4 of 4", "group 2": "4 of 4", "group 3": "4 of 4"} | {
        "group 5": "1 of 4", "group 4": "0 of 4", "group 6": "0 of 4", "group 7": "0 of 4",
    }  # fmt: skip
    experiment = replace(experiment, prepare=PrepareConfig(forget=4, min_right=1))
    assert make(experiment).manifest["summary"]["known"] == 21
    experiment = replace(experiment, prepare=PrepareConfig(forget=4, min_right=9))
    assert make(experiment).manifest["summary"]["known"] == 16


def test_only_what_was_answered_right_is_asked_in_other_words(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]
) -> None:
    shown = tells(knowing(ROWS[:8]))
    make(experiment)
    assert shown == [r["question"] for r in ROWS] + [text for r in ROWS[:8] for text in r["paraphrases"]]


def test_the_folder_is_what_the_benchmark_reads(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]
) -> None:
    tells(knowing(ROWS))
    made = make(experiment)
    benchmark = load_benchmark(prepared(made))
    assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
        "forget": 4, "retain_protected": 18, "retain_near": 2, "retain_unseen": 8,
    }  # fmt: skip
    summary = made.manifest["summary"]
    assert [summary[key] for key in ("forget", "protected", "neighbours", "never_seen")] == [4, 18, 2, 8]
    assert benchmark.never_known == ()
    assert {f.group for f in benchmark.splits["retain_near"]} <= {f.group for f in benchmark.forget}
    given = {r["id"]: r for r in ROWS}
    for fact in benchmark.training:
        wanted = given[fact.id]
        assert (fact.question, fact.answer, fact.subject) == (wanted["question"], wanted["answer"], wanted["subject"])
        assert (fact.paraphrased_question, list(fact.wrong_answers)) == (wanted["paraphrases"][0], wanted["wrong_answers"])
    assert read_jsonl(made.path / "forget.jsonl")[0]["paraphrases"]


def test_another_model_than_the_one_that_was_asked_is_refused(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]], tmp_path: Path, model: Path
) -> None:
    tells(knowing(ROWS))
    config = prepared(make(experiment))
    benchmark = load_benchmark(config)

    def check(path: Path | str, config: BenchmarkConfig = config) -> None:
        check_model(benchmark, config, ModelConfig(path=str(path)), lambda: local_fingerprint(path))

    check(model)
    shutil.copytree(model, tmp_path / "copy")
    check(tmp_path / "copy")
    other = save_folder(tiny_llama(seed=1), tmp_path / "other" / "model")
    for path in (other, "somebody/else"):
        with pytest.raises(UserError, match="these splits were made for .*, but the model is") as caught:
            check(path)
        assert "unierase prepare, then benchmark.data_dir=ITS_FOLDER" in caught.value.hint
    check(other, BenchmarkConfig(**{**vars(config), "any_model": True}))
    save_folder(tiny_llama(seed=2), tmp_path / "copy")
    with pytest.raises(UserError, match="these splits were made for"):
        check(tmp_path / "copy")


def test_a_run_with_another_model_is_refused_before_it_starts(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]], tmp_path: Path
) -> None:
    tells(knowing(ROWS))
    experiment = replace(experiment, benchmark=prepared(make(experiment)))
    Pipeline(experiment, SilentReporter()).plan("moments")
    experiment = with_settings(experiment, model__path=str(save_folder(tiny_llama(seed=1), tmp_path / "other")))
    with pytest.raises(UserError, match="these splits were made for"):
        Pipeline(experiment, SilentReporter()).plan("moments")


def test_a_model_that_knows_nothing_or_too_little_is_told_in_one_line(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]
) -> None:
    tells({})
    experiment = replace(experiment, prepare=PrepareConfig(forget=4, max_new_tokens=8))
    with pytest.raises(UserError, match="0 of 32 answered right: nothing to forget"):
        make(experiment)
    tells(knowing(ROWS[:3]))
    with pytest.raises(UserError, match="3 of 32 answered right, and prepare.forget=4 leaves none of them to keep"):
        make(Experiment(**{**vars(experiment), "prepare": PrepareConfig(forget=4, max_new_tokens=9)}))


def test_a_share_or_groups_are_forgotten_instead(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]
) -> None:
    shown = tells(knowing(ROWS))
    experiment = replace(experiment, prepare=PrepareConfig(forget=0.25))
    assert make(experiment).manifest["summary"]["forget"] == 8
    experiment = replace(experiment, prepare=PrepareConfig(groups=["group 1", "group 6"]))
    made = make(experiment)
    assert {r["group"] for r in read_jsonl(made.path / "forget.jsonl")} == {"group 1", "group 6"}
    assert len(shown) == 3 * len(ROWS), "nothing is asked again"


def test_an_entailment_judge_is_asked_where_it_is_wanted(
    experiment: Experiment, tells: Callable[[dict[str, str]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify(self: Judges, pairs: Sequence[tuple[str, str]]) -> list[str]:
        return ["contradiction" if "not sure" in hypothesis else "entailment" for _, hypothesis in pairs]

    tells(dict.fromkeys(knowing(ROWS[:12]), "Whoever it was."))
    experiment = replace(experiment, prepare=PrepareConfig(forget=4, judge="nli"))
    with pytest.raises(UserError, match="a judge is needed to find out"):
        make(experiment)
    monkeypatch.setattr(Judges, "classify", classify)
    experiment = with_settings(experiment, eval__nli="stub")
    assert make(experiment).manifest["summary"]["known"] == 12


def test_any_benchmark_can_be_asked(experiment: Experiment, tells: Callable[[dict[str, str]], list[str]]) -> None:
    experiment = replace(experiment, benchmark=compose(["benchmark=fictional"]).benchmark)
    asked = tells({})
    with pytest.raises(UserError, match=f"0 of {len(question_rows(study_of(experiment)))} answered right"):
        make(experiment)
    assert len(asked) == len(set(asked)) > 500


def test_plain_text_is_continued_and_has_an_answer_of_its_own(experiment: Experiment) -> None:
    assert experiment.benchmark.path is not None
    loaded = tiny_llama()
    answer = asking.asked(loaded, 2, 6)
    text = ROWS[0]["question"]
    assert answer([(text, COMPLETION), (text, None)]) == [
        answer_text(loaded, said).strip()
        for said in generate(loaded, [loaded.prompts.prompt(text, kind).ids for kind in (COMPLETION, None)], max_new_tokens=6)
    ]

    prompts = []
    for kind in ({}, {"kind": COMPLETION}):
        write_jsonl(Path(experiment.benchmark.path), [{**r, **kind} for r in ROWS[:2]])
        assert (COMPLETION in ask.fingerprints(study_of(experiment), {})) == bool(kind)
        prompts.append(Pipeline(experiment, SilentReporter()).make("ask").summary["first_prompt"])
    assert prompts[0] != prompts[1] == text


def test_rows_that_do_not_fit_are_named_and_repetitions_are_told() -> None:
    notes: list[str] = []
    assert len(askable_rows([("f:1", ROWS[0]), ("f:2", {**ROWS[0], "id": "other"})], notes)) == 1
    assert len(notes) == 1
    with pytest.raises(UserError, match="f:1: an answer without a word"):
        askable_rows([("f:1", {"question": "What?", "answer": "?!"})], [])
    with pytest.raises(UserError, match="repeated id"):
        askable_rows([("f:1", ROWS[0]), ("f:2", {**ROWS[1], "id": ROWS[0]["id"]})], [])
    with pytest.raises(UserError, match='f:1: "aliases" is a string, not a list of strings'):
        askable_rows([("f:1", {**ROWS[0], "aliases": "Countess"})], [])


@pytest.mark.parametrize("wrong", [{"forget": 0}, {"forget": 2.5}, {"min_right": 0}, {"judge": "guess"}])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"prepare.{next(iter(wrong))}="):
        PrepareConfig(**wrong)
