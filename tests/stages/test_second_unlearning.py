"""Unlearning on a model that was unlearned before: its token stays, and what it forgot is asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.gguf_files import write_gguf
from tests.helpers.quick_token import quick_token
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FACTS, save_folder, tiny_llama
from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, SilentReporter, UserError
from unierase_cli.delivery.export import export
from unierase_cli.editing.patch import Patch
from unierase_cli.editing.weights import AppliedPatch
from unierase_cli.metrics.compare import came_back
from unierase_cli.metrics.scores import Scores
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.models.vocabulary import add_unlearning_tokens, get_rows
from unierase_cli.pipeline.observation_files import read_state
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import study_of
from unierase_cli.stages.moments import preserved
from unierase_cli.store.json_text import decoded
from unierase_cli.store.unlearned import TAKEN_OVER, forgotten_in, unlearning_tokens_in

STAGE = TokenStage(epochs=1, least_steps=0)
BASE = Request("observe", (("state", "base"),))


def facts_file(path: Path, facts: list[Fact]) -> str:
    path.write_text("".join(json.dumps({"id": f.id, "question": f.question, "answer": f.answer}) + "\n" for f in facts), "utf-8")
    return str(path)


def experiment(model: Path, folder: Path, forget: list[Fact], retain: list[Fact], **changes: object) -> Experiment:
    settings = {
        "model": ModelConfig(path=str(model), key_position="prompt_last"),
        "benchmark": BenchmarkConfig(
            name="jsonl",
            path=facts_file(folder / "forget.jsonl", forget),
            retain_path=facts_file(folder / "retain.jsonl", retain),
            unseen_share=0.0,
            near_authors=0,
        ),
        "token": quick_token(folder, stages=[STAGE]),
        "edit": EditConfig(values=ValueConfig(steps=2), moments=MomentsConfig(samples=0)),
        "protocol": ProtocolConfig(max_new_tokens=4),
        "eval": EvalConfig(splits=["forget"], forget_variants=["plain", "unlearn_forbidden"]),
        "run": RunConfig(outputs=str(folder / "outputs"), device="cpu"),
    }
    return Experiment(**{**settings, **changes})


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that forgot the first two facts, exported."""
    folder = tmp_path_factory.mktemp("first")
    model = save_folder(tiny_llama(), folder / "model")
    config = experiment(model, folder, FACTS[:2], FACTS[2:4])
    export(Pipeline(config, SilentReporter()).make("erase"), folder / "once", SilentReporter(), config.run.outputs)
    return folder / "once"


def loaded_from(path: Path) -> LoadedModel:
    return load_model(ModelConfig(path=str(path)), RunConfig(device="cpu"))


@pytest.mark.slow
def test_an_exported_folder_names_what_it_forgot_by_hash(once: Path) -> None:
    assert forgotten_in(once) == tuple(fact.content_hash for fact in FACTS[:2])
    assert unlearning_tokens_in(once) == ["<unlearn_0>"]
    assert not any(fact.question in (once / "unierase.json").read_text("utf-8") for fact in FACTS)


@pytest.mark.slow
def test_a_second_run_takes_a_fresh_token_and_leaves_the_first_one_its_rows(once: Path, tmp_path: Path) -> None:
    config = experiment(once, tmp_path, FACTS[4:6], FACTS[2:4])
    run = Pipeline(config, SilentReporter()).make("erase")
    assert Patch.load(run.path, 0).tokens.names == ["<unlearn_1>"]
    export(run, tmp_path / "twice", SilentReporter(), config.run.outputs)
    before, after = loaded_from(once), loaded_from(tmp_path / "twice")
    for first, second in zip(get_rows(before, before.unlearn_ids), get_rows(after, before.unlearn_ids), strict=True):
        assert torch.equal(first, second)
    assert len(after.unlearn_ids) == 2
    assert forgotten_in(tmp_path / "twice") == tuple(fact.content_hash for fact in (*FACTS[:2], *FACTS[4:6]))


def test_token_existing_goes_on_from_the_rows_that_the_model_has(once: Path, tmp_path: Path) -> None:
    kept = TokenConfig(
        name="existing", init="keep", output_row="keep", settle=False, stages=[replace(STAGE, epochs=0)], refine_epochs=0
    )
    reporter = SilentReporter()
    run = Pipeline(experiment(once, tmp_path, FACTS[4:6], FACTS[2:4], token=kept), reporter).make("erase")
    tokens = Patch.load(run.path, 0).tokens
    assert (tokens.names, tokens.info[TAKEN_OVER]) == (["<unlearn_0>"], ["<unlearn_0>"])
    loaded = loaded_from(once)
    assert torch.equal(tokens.rows_in, get_rows(loaded, loaded.unlearn_ids)[0])
    assert not any("trained again" in text for text in reporter.warnings)


def test_training_a_kept_token_again_is_told(once: Path, tmp_path: Path) -> None:
    reporter = SilentReporter()
    trained = TokenConfig(init="keep", output_row="keep", stages=[STAGE], refine_epochs=0)
    Pipeline(experiment(once, tmp_path, FACTS[4:6], FACTS[2:4], token=trained), reporter).make("train_token")
    assert any("<unlearn_0> is trained again" in text for text in reporter.warnings)


def test_token_existing_is_refused_on_a_model_without_a_token(tmp_path: Path) -> None:
    model = save_folder(tiny_llama(), tmp_path / "model")
    config = experiment(model, tmp_path, FACTS[:2], FACTS[2:4], token=TokenConfig(name="existing", init="keep", output_row="keep"))
    with pytest.raises(UserError, match="the model has 0"):
        Pipeline(config, SilentReporter()).make("train_token")


def test_a_patch_with_another_token_of_the_same_name_is_refused() -> None:
    loaded = tiny_llama()
    add_unlearning_tokens(loaded, ["<unlearn_0>"], torch.Generator().manual_seed(0))
    rows_in, rows_out = get_rows(loaded, loaded.unlearn_ids)
    own = TokenRows(["<unlearn_0>"], list(loaded.unlearn_ids), rows_in, rows_out)
    AppliedPatch(loaded).set_tokens(own)
    with pytest.raises(UserError, match="another <unlearn_0>"):
        AppliedPatch(loaded).set_tokens(replace(own, rows_in=rows_in + 1))
    AppliedPatch(loaded).set_tokens(replace(own, rows_in=rows_in + 1, info={TAKEN_OVER: ["<unlearn_0>"]}))


def test_what_was_forgotten_is_asked_again_and_neither_retained_nor_protected_as_known(once: Path, tmp_path: Path) -> None:
    config = experiment(once, tmp_path, FACTS[4:6], FACTS[:4])
    benchmark = study_of(config).benchmark
    assert [fact.question for fact in benchmark.splits["forgotten_before"]] == [fact.question for fact in FACTS[:2]]
    assert not {fact.question for fact in FACTS[:2]} & {fact.question for fact in benchmark.protect}
    assert {fact.question for fact in FACTS[:4]} == {fact.question for fact in preserved(study_of(config))}
    _, observations = read_state(Pipeline(config, SilentReporter()).make("observe", state="base").path)
    # eval.splits names the forget split alone.
    assert len(observations["forgotten_before", "plain"]) == 2


def test_what_was_forgotten_is_found_in_a_file_of_the_users(once: Path, tmp_path: Path) -> None:
    config = experiment(once, tmp_path, FACTS[4:6], FACTS[2:4])
    assert any("forgot 2 facts in earlier runs, of which 0" in note for note in study_of(config).benchmark.notes)
    given = replace(config.benchmark, forgotten_path=facts_file(tmp_path / "earlier.jsonl", [*FACTS[:2], FACTS[7]]))
    benchmark = study_of(replace(config, benchmark=given)).benchmark
    assert [fact.question for fact in benchmark.splits["forgotten_before"]] == [fact.question for fact in FACTS[:2]]
    assert any("1 of 3 rows" in note for note in benchmark.notes)


def test_a_model_without_a_record_is_asked_every_row_of_the_file(tmp_path: Path) -> None:
    config = experiment(tmp_path, tmp_path, FACTS[4:6], FACTS[2:4]).benchmark
    given = replace(config, forgotten_path=facts_file(tmp_path / "earlier.jsonl", FACTS[:2]))
    assert len(load_benchmark(given).splits["forgotten_before"]) == 2


def test_a_fact_that_is_forgotten_again_is_only_in_the_forget_set(once: Path, tmp_path: Path) -> None:
    benchmark = study_of(experiment(once, tmp_path, FACTS[1:3], FACTS[4:6])).benchmark
    given = load_benchmark(
        replace(
            experiment(once, tmp_path, FACTS[1:3], FACTS[4:6]).benchmark,
            forgotten_path=facts_file(tmp_path / "earlier.jsonl", FACTS[:2]),
        ),
        forgotten=forgotten_in(once),
    )
    assert "forgotten_before" not in benchmark.splits
    assert [fact.question for fact in given.splits["forgotten_before"]] == [FACTS[0].question]


def test_the_unedited_state_of_such_a_model_has_a_token(once: Path, tmp_path: Path) -> None:
    config = experiment(once, tmp_path, FACTS[:2], FACTS[2:4], method=MethodConfig(name="none"))
    plan, observations = read_state(Pipeline(config, SilentReporter()).make("observe", state="base").path)
    assert plan.unlearn_ids == loaded_from(once).unlearn_ids
    assert observations["forget", "unlearn_forbidden"]
    assert all(o.first_unlearn_probability is not None for o in observations["forget", "plain"])


@pytest.mark.slow
def test_what_such_a_model_is_asked_before_the_edit_enters_its_key(once: Path, tmp_path: Path) -> None:
    def key(model: Path, *variants: str) -> str:
        config = experiment(model, tmp_path, FACTS[:2], FACTS[2:4])
        return Pipeline(with_settings(config, eval__forget_variants=list(variants)), SilentReporter()).key(BASE)

    file, without = write_gguf(loaded_from(once), tmp_path / "once.gguf"), write_gguf(tiny_llama(), tmp_path / "new.gguf")
    assert loaded_from(file).unlearn_ids == loaded_from(once).unlearn_ids
    for model in (once, file):
        assert key(model, "plain") != key(model, "unlearn_once") != key(model, "unlearn_once", "unlearn_forbidden")
    for model in (save_folder(tiny_llama(), tmp_path / "new"), without):
        assert key(model, "plain") == key(model, "unlearn_once")


def test_facts_that_come_back_are_told() -> None:
    def metrics(before: float, after: float) -> Scores:
        states = {"base": {"forgotten_before.rouge": {"value": before}}, "edited": {"forgotten_before.rouge": {"value": after}}}
        return decoded({"states": states}, Scores)

    assert came_back(metrics(0.03, 0.83)) is not None
    assert came_back(metrics(0.03, 0.05)) is None
    assert came_back(Scores(states={})) is None
