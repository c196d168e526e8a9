"""What of the configuration enters the keys of what is made with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from tests.helpers.sequences import GRADIENT, experiment
from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.counted import uncounted_keys
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, TrainConfig
from unierase_cli.contracts import COMPLETION, SilentReporter
from unierase_cli.pipeline import machine
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import Request
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.stages import erase
from unierase_cli.store.jsonl import write_jsonl

STAGES = ("train_token", "moments", "erase", "observe base", "observe edited", "score")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("keys")
    found = experiment(save_folder(tiny_llama(), folder / "model"), folder / "outputs", ModeConfig())
    return replace(found, run=replace(found.run, device="auto"))


def keys(config: Experiment) -> dict[str, str]:
    return {row.stage: row.key for row in Pipeline(config, SilentReporter()).plan("score")}


def with_model(config: Experiment, **changes: object) -> Experiment:
    return replace(config, model=replace(config.model, **changes))  # type: ignore[arg-type]


def devices(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("names", [["nvidia0"], ["nvidia3"], ["kfd"], ["dxg"]])
def test_what_was_made_on_a_cpu_is_no_part_of_a_run_on_a_gpu(
    names: list[str], config: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine, "DEVICES", devices(tmp_path / "none", "null", "nvidiactl"))
    plain = keys(config)
    assert set(STAGES) <= set(plain)
    monkeypatch.setattr(machine, "DEVICES", devices(tmp_path / "some", "null", *names))
    there = keys(config)
    assert not set(there.values()) & set(plain.values())
    assert keys(replace(config, run=replace(config.run, device="cuda:1"))) == there
    assert keys(replace(config, run=replace(config.run, device="cpu"))) == plain
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert keys(config) == plain, "the GPU is hidden"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    said = with_model(config, dtype="float32")
    on_gpu = keys(said)
    monkeypatch.setattr(machine, "DEVICES", tmp_path / "none")
    assert keys(said) == on_gpu, "one type wherever it runs"


def test_attention_enters_every_key(config: Experiment) -> None:
    for found in (config, replace(config, method=GRADIENT)):
        usual, eager = keys(found), keys(with_model(found, attention="eager"))
        assert not set(usual.values()) & set(eager.values())


@pytest.mark.parametrize("key", uncounted_keys(Experiment()))
def test_a_field_that_changes_no_result_enters_no_key(key: str, config: Experiment) -> None:
    training = replace(config, method=GRADIENT)
    value = attrgetter(key)(config)
    others = {"run.device": "cpu", "model.device_map": {"model": "cpu"}, "model.verified": "weights", "run.tracker": "wandb"}
    other = others.get(key, not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else (value or 0) + 1)
    for found in (config, training):
        assert keys(with_settings(found, **{key.replace(".", "__"): other})) == keys(found)


def test_the_code_behind_a_methods_name_enters_its_key(config: Experiment) -> None:
    key: Callable[[MethodConfig], str] = lambda method: keys(replace(config, method=method))["erase"]  # noqa: E731
    memit = MethodConfig(name="memit", token=False)
    assert key(memit) == key(replace(memit, implementation="memit"))
    assert key(memit) != key(replace(memit, implementation="alphaedit"))


@pytest.mark.parametrize("stage", ["finetune", "train_token", "moments", "trace"])
def test_whether_a_row_is_a_question_or_plain_text_enters_the_key_of_what_asks_it(stage: str, tmp_path: Path) -> None:
    def key(**kind: str) -> str:
        rows = [{"question": f"The capital of land {i} is", "answer": f" Town {i}", **kind} for i in range(20)]
        write_jsonl(tmp_path / "forget.jsonl", rows[:4])
        write_jsonl(tmp_path / "retain.jsonl", rows[4:])
        files = BenchmarkConfig("jsonl", path=str(tmp_path / "forget.jsonl"), retain_path=str(tmp_path / "retain.jsonl"))
        return Pipeline(Experiment(benchmark=files, train=TrainConfig("mini")), SilentReporter()).key(Request(stage))

    assert key() != key(kind=COMPLETION)
    assert key() == key(kind="question")


def test_only_plain_text_to_keep_changes_the_key_of_a_refined_token(config: Experiment) -> None:
    def told(kind: str | None, epochs: int) -> bool:
        found = study_of(replace(config, token=replace(config.token, refine_epochs=epochs)))
        kept = tuple(replace(fact, kind=kind) for fact in found.benchmark.protect)
        benchmark = replace(found.benchmark, protect=kept)
        return "protected" in erase.fingerprints(Study(found.experiment, lambda: benchmark), {})

    assert [told(COMPLETION, 1), told(COMPLETION, 0), told(None, 1)] == [True, False, False]
