"""The stage that asks the suites, what it leaves behind, and the numbers that are made of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.quick_token import quick_token
from tests.helpers.suites import made_rows, write_suites
from tests.helpers.tiny_models import save_folder, tiny_gpt2, tiny_llama
from unierase_cli.benchmarks.general.base import load_items, load_suite
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.inference.suites import answers_to, questions_of
from unierase_cli.metrics import general_ability
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.vocabulary import add_unlearning_tokens
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.results.one_run import tables as result_tables
from unierase_cli.stages import general as stage
from unierase_cli.stages import score
from unierase_cli.store.jsonl import read_jsonl, write_jsonl

SUITES = ["mmlu", "gsm8k", "trivia_qa", "human_eval"]
SIZES = {"mmlu": 20, "gsm8k": 5, "trivia_qa": 20, "human_eval": 2}


def model(state: str = "base") -> LoadedModel:
    """A model with room for prompts; the edited one has a token."""
    loaded = tiny_llama(seed=4, max_position_embeddings=1024)
    if state == "edited":
        add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(1))
    return loaded


def experiment(tmp_path: Path, **general: Any) -> Experiment:
    values: dict[str, Any] = {"suites": SUITES, "share": 1.0, "max_new_tokens": 5, "code_memory_mib": 256, **general}
    if "data_dir" not in values:
        values["data_dir"] = str(write_suites(tmp_path / "suites"))
    return Experiment(eval=EvalConfig(batch_size=3, general=GeneralConfig(**values)))


def use_models(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stage, "load_base", lambda *a: model())
    patch.setattr(stage, "load_edited", lambda *a: model("edited"))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    use_models(monkeypatch)


def run(directory: Path, config: Experiment, state: str = "base") -> dict[str, Any]:
    directory.mkdir(parents=True, exist_ok=True)
    return stage.run(StageContext(study_of(config), directory, {}, SilentReporter(), {"state": state}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, dict[str, Any], Path]:
    """All suites asked without an interruption: by which experiment, the summary and the folder, which nobody changes."""
    folder = tmp_path_factory.mktemp("whole")
    config = experiment(folder)
    with pytest.MonkeyPatch.context() as patch:
        use_models(patch)
        return config, run(folder / "out", config), folder / "out"


def contents(directory: Path) -> dict[str, Any]:
    """The rows of every file, without how long a program took."""
    found = {path.name: read_jsonl(path) for path in directory.glob("*.jsonl")}
    return {name: [{k: v for k, v in row.items() if k != "seconds"} for row in rows] for name, rows in found.items()}


def test_a_question_is_asked_with_one_bos_and_with_two_only_where_the_reference_has_two() -> None:
    loaded = model()
    bos = loaded.tokenizer.bos_token_id
    (question,) = questions_of(loaded, [("a", "Which?")])
    assert question.ids == loaded.prompts.prompt("Which?").ids
    assert question.ids.count(bos) == 1
    # This tokenizer puts no BOS in front by itself, so the reference's second encoding adds none.
    assert questions_of(loaded, [("a", "Which?")], compat=True)[0].ids == question.ids
    encode = type(loaded.tokenizer).__call__

    class Opening(type(loaded.tokenizer)):  # type: ignore[misc]
        def __call__(self, text: Any, *args: Any, add_special_tokens: bool = True, **kwargs: Any) -> Any:
            found = encode(self, text, *args, add_special_tokens=add_special_tokens, **kwargs)
            if add_special_tokens:
                found["input_ids"] = [bos, *found["input_ids"]]
            return found

    loaded.tokenizer.__class__ = Opening
    assert questions_of(loaded, [("a", "Which?")])[0].ids == question.ids
    assert questions_of(loaded, [("a", "Which?")], compat=True)[0].ids == [bos, *question.ids]


def test_a_question_that_does_not_fit_is_answered_by_nothing_among_others_that_are() -> None:
    loaded = tiny_gpt2()
    questions = questions_of(loaded, [("a", "Which?"), ("b", "word " * 300), ("c", "Who?")])
    assert [q.too_long for q in questions] == [False, True, False]
    answers = answers_to(loaded, questions, 3)
    assert [(a.id, a.output, a.tokens, a.stop) for a in answers][1] == ("b", "", 0, "too long")
    assert [a.tokens for a in (answers[0], answers[2])] == [
        a.tokens for a in answers_to(loaded, [questions[0], questions[2]], 3)
    ]


@pytest.mark.parametrize("compat", [False, True])
def test_questions_that_do_not_fit_are_wrong_and_never_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compat: bool
) -> None:
    folder = write_suites(tmp_path / "suites")
    rows = made_rows()["trivia_qa"]
    # By the reference's rule an empty output would be right.
    write_jsonl(folder / "trivia_qa.jsonl", [*rows[:2], {**rows[2], "context": "page " * 2000}])
    programs = made_rows()["human_eval"]
    programs[0]["prompt"] = '"""' + "text " * 2000 + '"""\n' + programs[0]["prompt"]
    write_jsonl(folder / "human_eval.jsonl", programs)
    monkeypatch.setattr(stage, "load_base", lambda *a: model())
    config = experiment(tmp_path, suites=["trivia_qa", "human_eval"], data_dir=str(folder), compat=compat)
    reporter = SilentReporter()
    (tmp_path / "out").mkdir()
    made = stage.run(StageContext(study_of(config), tmp_path / "out", {}, reporter, {"state": "base"}))
    assert made["too_long"] == {"trivia_qa": 1, "human_eval": 1}
    # Of five tokens each the other answers are cut short.
    cut = [text.partition(":")[0] for text in reporter.warnings if "end at the token limit; allow more" in text]
    assert cut == ["TriviaQA", "HumanEval"]
    assert reporter.warnings[:-2] == [
        "TriviaQA: 1 of 3 questions do not fit the model's context of 1024 tokens; they are not asked and count as wrong",
        "HumanEval: 1 of 2 questions do not fit the model's context of 1024 tokens; they are not asked and count as wrong",
    ]
    found = stage.read_general(tmp_path / "out", config)
    left_out = [row for rows in found.values() for row in rows if row["stop"] == "too long"]
    assert [(row["place"], row["output"], row["correct"], row["follows"]) for row in left_out] == [
        (2, "", False, False),
        (0, "", False, False),
    ]


def test_a_program_gets_a_second_where_the_reference_gives_it_one(tmp_path: Path) -> None:
    def seconds(**general: Any) -> float:
        config = experiment(tmp_path, **general)
        return stage._limits(StageContext(study_of(config), tmp_path, {}, SilentReporter(), {})).seconds

    assert (seconds(), seconds(code_seconds=7.0), seconds(compat=True, code_seconds=7.0)) == (3.0, 7.0, 1.0)


def test_every_row_keeps_what_was_said_and_what_was_right(whole: tuple[Experiment, dict[str, Any], Path]) -> None:
    config, summary_, out = whole
    assert summary_["rows"] == SIZES
    assert "memory" in summary_["programs_confined_by"]
    for name, count in SIZES.items():
        rows = sorted(read_jsonl(out / f"{name}.jsonl"), key=lambda row: row["place"])
        items = load_items(name, config.eval.general)
        assert len(rows) == count
        assert [(row["suite"], row["id"], row["gold"]) for row in rows] == [(name, i.id, i.gold) for i in items]
        assert all(row["tokens"] <= 5 and len(row["prompt_hash"]) == 16 for row in rows)
        assert all(("passed" in row) == (name == "human_eval") for row in rows)


@pytest.mark.usefixtures("models")
@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [0, 1, 8])
def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(
    whole: tuple[Experiment, dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    config, _, out = whole
    appended, append = 0, stage.append_jsonl

    def die(path: Path, rows: Any) -> None:
        nonlocal appended
        if appended == killed_after:
            with path.open("a") as stream:
                stream.write(json.dumps(next(iter(rows)))[:30])
            raise KeyboardInterrupt
        appended += 1
        append(path, rows)

    monkeypatch.setattr(stage, "append_jsonl", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", config)
    monkeypatch.setattr(stage, "append_jsonl", append)
    # The batches of the first run count, whatever the batch size is now.
    run(tmp_path / "cut", replace(config, eval=replace(config.eval, batch_size=7)))
    assert contents(tmp_path / "cut") == contents(out)


@pytest.mark.usefixtures("models")
def test_a_folder_that_was_begun_with_other_questions_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "out", experiment(tmp_path, suites=["gsm8k"]))
    with pytest.raises(UserError, match="made for other questions"):
        run(tmp_path / "out", experiment(tmp_path, suites=["gsm8k"], rows=2))


def test_rows_are_judged_when_they_are_scored(
    whole: tuple[Experiment, dict[str, Any], Path], tmp_path: Path
) -> None:
    config, _, out = whole
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out" / "gsm8k.jsonl"
    rows = [{**row, "output": f"The final answer is {row['gold']}."} for row in read_jsonl(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = stage.read_general(tmp_path / "out", config)
    assert set(found) == {f"general.{name}" for name in SUITES}
    assert [row["place"] for row in found["general.gsm8k"]] == list(range(5))
    assert all(row["correct"] and row["follows"] and row["title"] == "GSM8K" for row in found["general.gsm8k"])


def test_only_a_run_that_asks_for_it_needs_the_stage_and_other_keys_stay_as_they_are(tmp_path: Path) -> None:
    plain, asking = Experiment(), experiment(tmp_path)
    assert set(score.needs(study_of(plain), {})) == {"base", "edited"}
    assert set(score.needs(study_of(asking), {})) == {"base", "edited", "general_base", "general_edited"}
    assert "general" not in score.reads(study_of(plain), {})
    assert score.reads(study_of(asking), {})["general"]["suites"] == {name: load_suite(name).VERSION for name in SUITES}
    key = stage.reads(study_of(asking), {"state": "base"})
    moved = experiment(tmp_path, data_dir=str(write_suites(tmp_path / "elsewhere")))
    assert stage.reads(study_of(moved), {"state": "base"}) == key
    assert stage.reads(study_of(experiment(tmp_path, compat=True)), {"state": "base"}) != key
    assert set(stage.needs(study_of(replace(asking, model=ModelConfig(path="m"))), {"state": "edited"})) == {"erase"}


def row(correct: bool, output: str = "The final answer is 3.", tokens: int = 6) -> dict[str, Any]:
    return {"title": "GSM8K", "output": output, "tokens": tokens, "correct": correct, "follows": True}


def test_a_suite_has_accuracy_refusals_length_and_form_each_per_row() -> None:
    rows = [row(True), row(False, "I have no knowledge of that.", 8), row(False), row(False)]
    evidence = Evidence("base", {}, refusals=["I have no knowledge of that."], passes={"general.gsm8k": rows})
    found = {column.id: column for column in general_ability.columns(evidence)}
    assert list(found) == [f"general.gsm8k.{name}" for name in ("accuracy", "idk", "length", "follow")]
    accuracy, refusals = found["general.gsm8k.accuracy"].result, found["general.gsm8k.idk"].result
    assert (accuracy.value, accuracy.n, accuracy.per_sample) == (0.25, 4, (1.0, 0.0, 0.0, 0.0))
    assert accuracy.ci95 is not None
    assert (refusals.value, refusals.higher_is_better) == (0.25, False)
    assert found["general.gsm8k.length"].result.value == 6.5


def test_refusals_are_by_meaning_where_an_encoder_is_there_and_the_title_says_which() -> None:
    def idk(judges: Judges) -> tuple[str, Any]:
        rows = [row(True), row(False, "I have no knowledge of that."), row(False, "Nobody told me."), row(False, "")]
        passes = {"general.gsm8k": rows}
        evidence = Evidence("base", {}, refusals=["I have no knowledge of that."], passes=passes, judges=judges)
        (column,) = [c for c in general_ability.columns(evidence) if c.metric == "idk"]
        return column.title, column.result.per_sample

    def encode(texts: Any) -> list[list[float]]:
        return [[1.0, 0.0] if "know" in text or "told" in text else [0.0, 1.0] for text in texts]

    assert idk(Judges()) == ("GSM8K listed refusals", (0.0, 1.0, 0.0, 0.0))
    assert idk(Judges.of(encode_refusals=encode)) == ("GSM8K refusals by meaning", (0.0, 1.0, 1.0, 0.0))
    # The encoder of another metric is no encoder for this one.
    assert idk(Judges.of(encode=encode))[0] == "GSM8K listed refusals"
    assert idk(Judges(refusal_encoder="./gone"))[0] == "GSM8K listed refusals"


def test_one_row_has_no_interval_and_no_row_no_number() -> None:
    def first(rows: list[dict[str, Any]]) -> Any:
        return next(iter(general_ability.columns(Evidence("base", {}, passes={"general.gsm8k": rows})))).result

    assert (first([row(True)]).value, first([row(True)]).ci95) == (1.0, None)
    assert first([]).unavailable == "there are no rows to score"


def test_without_listed_refusals_only_their_share_is_unavailable() -> None:
    found = {
        c.metric: c.result for c in general_ability.columns(Evidence("base", {}, passes={"general.gsm8k": [row(True)]}))
    }
    assert "token.targets" in str(found["idk"].unavailable)
    assert found["accuracy"].value == 1.0


def test_other_passes_are_none_of_its_business() -> None:
    assert list(general_ability.columns(Evidence("base", {}, passes={"perplexity": [{"value": 3.0}]}))) == []


def test_the_report_shows_both_states_side_by_side() -> None:
    states = {"base": [row(True), row(True)], "edited": [row(True), row(False)]}
    metrics = compare(*(Evidence(state, {}, passes={"general.gsm8k": rows}) for state, rows in states.items()))
    (table,) = result_tables.general_tables(metrics)
    assert table.title == "General ability"
    assert table.rows[0][:4] == ("general ability: GSM8K accuracy", "1.000", "0.500", "-0.500")
    mine = [found for found in metrics.changes() if found.column.split == "general"]
    assert {found.column.group for found in mine} == {"general"}
    assert mine[0].change.ci95 is not None
    assert result_tables.general_tables(compare(Evidence("base", {}), Evidence("edited", {}))) == []


@pytest.mark.slow
def test_a_whole_run_asks_both_states_and_scores_them(tmp_path: Path) -> None:
    config = Experiment(
        model=ModelConfig(path=str(save_folder(model(), tmp_path / "model")), key_position="prompt_last"),
        benchmark=BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5, rows=3),
        token=quick_token(tmp_path),
        edit=EditConfig(values=ValueConfig(steps=2), moments=MomentsConfig(samples=20, max_tokens=12)),
        protocol=ProtocolConfig(max_new_tokens=4),
        eval=replace(experiment(tmp_path, suites=["gsm8k", "human_eval"]).eval, splits=["forget"], forget_variants=[]),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )
    scored = Pipeline(config, SilentReporter()).make("score")
    rows = {found["id"]: found for found in scored.manifest["summary"]["rows"]}
    assert rows["general.gsm8k.accuracy"]["n"] == len(made_rows()["gsm8k"])
    assert rows["general.human_eval.accuracy"]["difference"] is not None
    asked = [(row.stage, row.state) for row in Pipeline(config, SilentReporter()).plan("score")]
    assert ("general base", "done") in asked
    assert ("general edited", "done") in asked
