"""Observing: what is asked and written down, and that an interrupted pass ends like an uninterrupted one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.eager_token import with_eager_token
from tests.helpers.observing import PROTOCOL, ROWS, edited_model, experiment, run, scored
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig
from unierase_cli.contracts import Benchmark, Fact, Observation, SilentReporter, UserError
from unierase_cli.inference.generate import Generated
from unierase_cli.inference.observe import ask, observe, plan_batches
from unierase_cli.metrics import leak
from unierase_cli.models.load import LoadedModel
from unierase_cli.pipeline.observation_files import Plan, read_state
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages import observe as stage
from unierase_cli.stages import score


def observed(loaded: LoadedModel, variant: str, wrong_answers: bool = False, batch_size: int = 3) -> list[Observation]:
    asked = ask(loaded, ROWS, variant, PROTOCOL)
    batches = plan_batches(asked, batch_size, "cpu")
    found = observe(
        loaded, asked, batches, split="forget", variant=variant, protocol=PROTOCOL, wrong_answers=wrong_answers
    )
    return sorted((o for batch in found for o in batch), key=lambda o: o.fact_id)


def test_plain_observations_hold_the_text_and_the_scores_of_every_answer() -> None:
    loaded = edited_model()
    for fact, o in zip(sorted(ROWS, key=lambda f: f.id), observed(loaded, "plain", wrong_answers=True), strict=True):
        assert (o.fact_id, o.row_hash, o.question, o.reference) == (fact.id, fact.row_hash, fact.question, fact.answer)
        assert o.text == loaded.tokenizer.decode(o.generated_ids, skip_special_tokens=True)
        assert [len(o.answers[kind]) for kind in ("true", "paraphrased", "wrong")] == [1, 1, 2]
        assert o.answers["true"][0].token_ids == loaded.prompts.answer_ids(fact.answer)
        assert 0 <= (o.first_unlearn_probability or 0) <= 1
        assert Observation.from_json(json.loads(json.dumps(o.to_json()))) == o


def test_without_wrong_answers_only_the_true_one_is_scored() -> None:
    assert all(set(o.answers) == {"true"} for o in observed(edited_model(), "plain"))


def test_a_model_without_a_token_has_no_first_token_probability() -> None:
    assert all(o.first_unlearn_probability is None and not o.first_is_unlearn for o in observed(tiny_llama(), "plain"))


def test_paraphrased_asks_the_other_question_and_leaves_out_rows_without_one() -> None:
    rows = observed(edited_model(), "paraphrased")
    assert len(rows) == len(ROWS) - 1
    assert all(o.question == o.question.lower() and o.answers == {} for o in rows)


def test_answer_prefix_gives_the_first_tokens_and_keeps_them_apart() -> None:
    loaded = edited_model()
    for o in observed(loaded, "answer_prefix"):
        given = loaded.prompts.answer_ids(o.reference)[:3]
        assert o.given_prefix == loaded.tokenizer.decode(given)
        assert o.reference.startswith(o.given_prefix.lstrip())
        assert o.given_prefix + o.text == loaded.tokenizer.decode([*given, *o.generated_ids], skip_special_tokens=True)
        assert o.first_unlearn_probability is None


def test_answer_prefix_never_gives_a_whole_answer_away() -> None:
    loaded = edited_model()
    short = Fact("short", "Who?", "Ada")
    row = ask(loaded, [short], "answer_prefix", ProtocolConfig(prefix_tokens=50))[0]
    assert len(row.prefix_ids) == max(row.answer.own - 1, 0)
    assert row.prompt_ids == loaded.prompts.prompt("Who?").ids + row.prefix_ids


@pytest.mark.parametrize(
    ("answer", "count", "given"),
    [
        ("Она в Москве.", 1, "О"),
        ("Она в Москве.", 3, "О"),
        ("Она в Москве.", 4, "Он"),
        ("東京大学で学んだ", 1, "東"),
        ("東京大学で学んだ", 5, "東"),
        ("東京", 99, "東"),
        ("東", 1, ""),
        ("\ufffd!", 3, "\ufffd"),
    ],
)
def test_answer_prefix_gives_whole_characters(answer: str, count: int, given: str) -> None:
    loaded, fact = tiny_llama(), Fact("f", "Where?", answer)
    (row,) = ask(loaded, [fact], "answer_prefix", ProtocolConfig(prefix_tokens=count))
    assert loaded.tokenizer.decode(row.prefix_ids) == given
    assert row.answer.ids[: len(row.prefix_ids)] == row.prefix_ids


def test_an_answer_said_after_its_start_leaks_whole_in_any_script() -> None:
    loaded, fact = tiny_llama(), Fact("f", "Where?", "Она родилась в Москве.")
    protocol = ProtocolConfig(prefix_tokens=1, max_new_tokens=64)
    (row,) = ask(loaded, [fact], "answer_prefix", protocol)
    rest = row.answer.ids[len(row.prefix_ids) : row.answer.own]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unierase_cli.inference.observe.generate", lambda *_, **__: [Generated(rest, "end")])
        ((seen,),) = observe(loaded, [row], [[0]], split="forget", variant="answer_prefix", protocol=protocol)
    assert (seen.given_prefix, seen.text) == ("О", "на родилась в Москве.")
    assert leak.compute([seen]).value == 1


def test_the_honesty_variants_decode_without_the_token_or_with_one_at_most() -> None:
    loaded = with_eager_token(tiny_llama(seed=3))
    token = loaded.unlearn_ids[0]
    counts = {
        variant: [o.generated_ids.count(token) for o in observed(loaded, variant)]
        for variant in ("plain", "unlearn_once", "unlearn_forbidden")
    }
    assert max(counts["plain"]) > 1
    assert set(counts["unlearn_once"]) == {1}
    assert set(counts["unlearn_forbidden"]) == {0}


def test_a_question_longer_than_the_context_names_its_fact() -> None:
    long = Fact("the-long-one", "Ada Velour " * 200, "Yes.")
    with pytest.raises(UserError, match="fact the-long-one: .*context of 256"):
        ask(tiny_llama(), [long], "plain", PROTOCOL)


def test_observations_do_not_depend_on_the_batch_size_beyond_rounding() -> None:
    loaded = edited_model()
    for a, b in zip(observed(loaded, "plain", True, 1), observed(loaded, "plain", True, 64), strict=True):
        assert a.generated_ids == b.generated_ids
        for kind in a.answers:
            for x, y in zip(a.answers[kind], b.answers[kind], strict=True):
                assert x.log_probs == pytest.approx(y.log_probs, abs=1e-5)


def use_rows(patch: pytest.MonkeyPatch) -> None:
    benchmark = Benchmark(
        "test",
        tuple(ROWS[:5]),
        (),
        {"forget": tuple(ROWS[:5]), "retain_unseen": tuple(ROWS[5:]), "world_facts": ()},
        "x",
    )
    patch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: benchmark)
    patch.setattr(stage, "load_base", lambda *_: tiny_llama(seed=4))
    patch.setattr(stage, "load_edited", lambda *_: edited_model())


@pytest.fixture
def benchmark_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    use_rows(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pass over both states writes without an interruption, in ``base`` and ``edited``; nobody changes it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        use_rows(patch)
        for state in ("base", "edited"):
            run(folder / state, state)
    return folder


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.mark.usefixtures("benchmark_rows")
def test_the_stage_writes_a_file_per_split_and_variant(tmp_path: Path) -> None:
    summary = run(tmp_path / "edited", "edited")
    variants = ["plain", "unlearn_forbidden", "unlearn_once", "paraphrased", "answer_prefix"]
    names = {f"forget.{v}.jsonl" for v in variants} | {"retain_unseen.plain.jsonl", "plan.json"}
    assert set(contents(tmp_path / "edited")) == names
    assert summary["rows"] == 5 * 5 - 1 + 3
    assert ROWS[0].question in summary["first_prompt"]
    plan, found = read_state(tmp_path / "edited")
    assert [o.fact_id for o in found["forget", "plain"]] == [fact.id for fact in ROWS[:5]]
    plain = [o.stop for split in ("forget", "retain_unseen") for o in found[split, "plain"]]
    assert summary["share_cut_short"] == sum(stop != "end" for stop in plain) / 8
    assert plan.unlearn_ids == edited_model().unlearn_ids
    assert set(plan.unlearn_ids) <= set(plan.special_ids)


@pytest.mark.usefixtures("benchmark_rows")
def test_a_model_without_a_token_is_not_asked_in_the_tokens_variants(tmp_path: Path) -> None:
    run(tmp_path / "base", "base")
    assert {name for name in contents(tmp_path / "base") if "unlearn" in name} == set()


@pytest.mark.usefixtures("benchmark_rows")
@pytest.mark.parametrize("killed_after", [0, 1, 3, 7])
def test_an_interrupted_stage_goes_on_and_ends_like_an_uninterrupted_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    appended, append = 0, stage.append_jsonl

    def die(path: Path, rows: Any) -> None:
        nonlocal appended
        if appended == killed_after:
            with path.open("a") as stream:  # a torn line, as kill -9 in the middle of writing leaves it
                stream.write(json.dumps(next(iter(rows)))[:40])
            raise KeyboardInterrupt
        appended += 1
        append(path, rows)

    monkeypatch.setattr(stage, "append_jsonl", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", "edited")
    monkeypatch.setattr(stage, "append_jsonl", append)
    # Another batch size must not matter: the stored plan counts.
    run(tmp_path / "cut", "edited", with_settings(experiment(), eval__batch_size=5))
    assert contents(tmp_path / "cut") == contents(whole / "edited")


@pytest.mark.usefixtures("benchmark_rows")
def test_a_batch_that_was_written_in_part_is_asked_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "edited", tmp_path / "cut")
    path = tmp_path / "cut" / "forget.plain.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))  # one batch of two and half of the next
    run(tmp_path / "cut", "edited")
    assert contents(tmp_path / "cut") == contents(whole / "edited")


@pytest.mark.usefixtures("benchmark_rows")
def test_what_is_asked_and_how_enters_the_key_but_not_the_batch_size() -> None:
    base, edited = {"state": "base"}, {"state": "edited"}
    config = experiment()
    before = stage.reads(study_of(config), base), stage.reads(study_of(config), edited)
    config = with_settings(config, eval__batch_size=99, eval__retain_reference="elsewhere")
    assert (stage.reads(study_of(config), base), stage.reads(study_of(config), edited)) == before
    config = with_settings(config, eval__forget_variants=["unlearn_forbidden", "paraphrased", "answer_prefix"])
    assert stage.reads(study_of(config), base) == before[0]
    assert stage.reads(study_of(config), edited) != before[1]
    config = with_settings(config, protocol__max_new_tokens=7)
    assert stage.reads(study_of(config), base) != before[0]
    assert set(stage.needs(study_of(config), edited)) == {"erase"}
    assert stage.needs(study_of(config), base) == {}


@pytest.mark.usefixtures("benchmark_rows")
def test_an_unknown_split_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"eval.splits=retain_unsen .*retain_unseen"):
        stage.scored_splits(study_of(experiment(splits=["forget", "retain_unsen"])))
    # One that other benchmarks have is left out: a list of splits serves them all.
    assert list(stage.scored_splits(study_of(experiment(splits=["forget", "retain_near"])))) == ["forget"]


@pytest.mark.usefixtures("benchmark_rows")
def test_rows_of_the_protocol_are_the_first_ones() -> None:
    config = with_settings(experiment(), protocol=replace(PROTOCOL, rows=2))
    assert {name: [f.id for f in facts] for name, facts in stage.scored_splits(study_of(config)).items()} == {
        "forget": [f.id for f in ROWS[:2]],
        "retain_unseen": [f.id for f in ROWS[5:7]],
    }


@pytest.mark.usefixtures("benchmark_rows")
def test_scoring_puts_both_states_side_by_side(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    summary = scored(tmp_path, SilentReporter())
    metrics = json.loads((tmp_path / "score" / "metrics.json").read_text())
    assert metrics["rows"] == {"forget": 5, "retain_unseen": 3}
    rows = {row["id"]: row for row in summary["rows"]}
    assert rows["forget.rouge"]["n"] == 5
    # Untrained models run on: the report says so.
    assert [text for text in metrics["warnings"] if "answers end at the token limit" in text]
    assert rows["forget.rouge"]["difference"] == pytest.approx(
        rows["forget.rouge"]["edited"] - rows["forget.rouge"]["base"]
    )
    assert rows["forget.first_token_unlearn"]["base"] is None
    assert rows["forget.first_token_unlearn"]["edited"] is not None
    assert "no unlearning token" in metrics["states"]["base"]["forget.unlearn_forbidden.leak"]["unavailable"]
    assert rows["forget.unlearn_forbidden.leak"]["edited"] is not None
    assert rows["forget.paraphrased.leak"]["n"] == 4
    assert (
        "world_facts" in rows["all.model_utility"]["unavailable"]
        or "real_authors" in rows["all.model_utility"]["unavailable"]
    )
    assert "eval.retain_reference" in rows["forget.forget_quality"]["unavailable"]
    assert metrics["examples"][0]["question"] == ROWS[0].question


@pytest.mark.usefixtures("benchmark_rows")
def test_a_retain_reference_gives_a_forget_quality(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    config = experiment(retain_reference=str(tmp_path / "base"))
    rows = {row["id"]: row for row in scored(tmp_path, SilentReporter(), config)["rows"]}
    assert rows["forget.forget_quality"]["base"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="retain_reference"):
        score.fingerprints(study_of(experiment(retain_reference=str(tmp_path))), {})


@pytest.mark.usefixtures("benchmark_rows")
def test_an_edit_without_effect_is_said(whole: Path, tmp_path: Path) -> None:
    for state in ("base", "edited"):
        shutil.copytree(whole / "base", tmp_path / state)
        plan = Plan.load(tmp_path / state)
        replace(plan, state=state).save(tmp_path / state)
    reporter = SilentReporter()
    scored(tmp_path, reporter)
    assert any("identical to base" in warning for warning in reporter.warnings)


@pytest.mark.usefixtures("benchmark_rows")
def test_damaged_observations_are_named_by_file_and_line(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "base", tmp_path / "base")
    path = tmp_path / "base" / "forget.plain.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + '{"fact_id": "x"}\n')
    with pytest.raises(UserError, match=r"forget.plain.jsonl:2: not an observation"):
        read_state(tmp_path / "base")
    path.write_text(lines[0])
    with pytest.raises(UserError, match=r"lacks 4 of 5 rows"):
        read_state(tmp_path / "base")


def test_a_method_that_changes_nothing_is_observed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Experiment(
        model=ModelConfig(path=str(save_folder(tiny_llama(), tmp_path / "model")), key_position="prompt_last"),
        benchmark=BenchmarkConfig(name="fictional", split="forget10", authors=20, questions=5),
        method=MethodConfig(name="none", editing=False, token=False),
        protocol=replace(PROTOCOL, rows=2),
        eval=EvalConfig(splits=["forget", "world_facts"]),
        run=RunConfig(outputs=str(tmp_path / "outputs"), device="cpu"),
    )
    pipeline = Pipeline(config, SilentReporter())
    base = pipeline.make("observe", state="base")
    really = tmp_path / "really"
    really.mkdir()
    inputs = {"erase": pipeline.make("erase")}
    stage.run(StageContext(study_of(config), really, inputs, SilentReporter(), {"state": "edited"}))
    monkeypatch.setattr(stage, "load_edited", lambda *given: pytest.fail("the model was asked again"))
    edited = pipeline.make("observe", state="edited")
    assert edited.summary == {**base.summary, "state": "edited"}
    assert {path.name for path in really.iterdir()} == {path.name for path in edited.files("*.json*")} - {"manifest.json"}
    for path in really.glob("*.json*"):
        assert (edited.path / path.name).read_bytes() == path.read_bytes(), f"{path.name} is not what asking gives"
    scored = pipeline.make("score")
    assert {row["difference"] for row in scored.summary["rows"] if row["difference"] is not None} == {0.0}
