"""The doctor: shapes and sizes from config.json alone, and what is missing before a run finds out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.settings import with_settings
from tests.helpers.tiny_models import FAMILIES, FURTHER, tiny
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TermConfig
from unierase_cli.config.sections.unlearn import AdapterConfig, UnlearnConfig
from unierase_cli.contracts import UserError
from unierase_cli.estimate import doctor
from unierase_cli.estimate.memory_and_disk import disk_needs, memory_needs
from unierase_cli.estimate.need import Need, Rows, peak, stage_peaks
from unierase_cli.estimate.shapes import KNOWN, from_config, shape_of
from unierase_cli.pipeline.study import study_of


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_weights_are_counted_from_the_configuration_alone(family: str) -> None:
    model = tiny(family).model
    shape = from_config(json.loads(model.config.to_json_string(use_diff=False)))
    assert shape.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", [*FAMILIES, *FURTHER])
def test_layers_follow_the_rule_that_the_model_itself_follows(family: str) -> None:
    loaded = tiny(family)
    shape = from_config(json.loads(loaded.model.config.to_json_string(use_diff=False)))
    assert shape.default_layers() == loaded.architecture.default_layers()


def test_a_configuration_that_no_model_can_be_made_of_is_refused() -> None:
    strange = ({"model_type": "nothing"}, {"model_type": "opt", "hidden_size": "wide"}, {"model_type": "falcon", "vocab_size": -1})
    for config in strange:
        with pytest.raises(UserError, match="cannot make a causal language model"):
            from_config(config)


def test_known_models_have_their_published_size() -> None:
    sizes = {
        "llama-3.1-8b": 8_030_261_248,
        "llama-3.2-1b": 1_235_814_400,
        "llama-3.2-3b": 3_212_749_824,
        "llama-2-7b": 6_738_415_616,
        "qwen2.5-7b": 7_615_616_512,
        "mistral-7b-v0.1": 7_241_732_096,
        "gpt2": 124_439_808,
        "smollm2-135m": 134_515_008,
        "smollm2-360m": 361_821_120,
        "smollm2-1.7b": 1_711_376_384,
        "qwen2.5-0.5b": 494_032_768,
    }
    assert {name: KNOWN[name].parameters for name in sizes} == sizes


def test_a_hub_model_that_is_not_here_has_its_known_shape_or_none() -> None:
    def of(path: str) -> Any:
        return shape_of(Experiment(model=ModelConfig(path=path)))

    assert of("open-unlearning/tofu_Llama-3.1-8B-Instruct_full")[0] == KNOWN["llama-3.1-8b"]
    assert of("meta-llama/Llama-3.2-1B-Instruct")[0] == KNOWN["llama-3.2-1b"]
    shape, reason = of("someone/unheard-of")
    assert shape is None
    assert "not in the local cache" in reason
    with pytest.raises(UserError, match="does not exist"):
        of("/no/such/model")


def test_an_8b_edit_needs_what_was_worked_out_by_hand() -> None:
    experiment = Experiment(model=ModelConfig(path="a/b", layers=[4, 5, 6, 7, 8]))
    memory = memory_needs(study_of(experiment), KNOWN["llama-3.1-8b"], Rows(400, 1000, 1000), accelerator=True)
    sizes = {need.what: need.bytes for need in memory}
    assert sizes["model weights"] == 2 * 8_030_261_248
    assert sizes["second moments"] == 5 * 14336**2 * 8
    disk = {n.what: n.bytes for n in disk_needs(experiment, KNOWN["llama-3.1-8b"], Rows(400, 1000, 1000), True)}
    assert disk["patch"] == 5 * 400 * (14336 + 4096) * 4
    assert disk["moments.safetensors"] == 5 * 14336**2 * 4


def test_every_step_keeps_the_weights_that_it_changed() -> None:
    method = MethodConfig("ga", "gradient", False, False, TermConfig("ga"), TermConfig("gd"))

    def disk(steps: int, adapter: str = "none", every: int = 0) -> dict[str, int]:
        unlearn, lora = UnlearnConfig(checkpoint_every=every), AdapterConfig(name=adapter)
        experiment = Experiment(model=ModelConfig(path="a/b"), method=method, unlearn=unlearn, adapter=lora)
        needs = disk_needs(experiment, KNOWN["llama-3.1-8b"], Rows(400, 1000, 1000, steps=steps), False)
        return {need.what: need.bytes for need in needs if need.stage == "erase"}

    assert disk(10)["changed weights"] == 10 * disk(1)["changed weights"] == 10 * 2 * 8_030_261_248
    assert disk(10, "lora")["adapters"] == 10 * disk(1, "lora")["adapters"]
    assert disk(1)["checkpoints while training"] == 3 * 12 * 8_030_261_248
    assert "checkpoints while training" not in disk(1, every=-1)


def test_a_method_without_moments_needs_none() -> None:
    experiment = with_settings(Experiment(model=ModelConfig(path="a/b")), method__editing=False, method__token=False)
    stages = {n.stage for n in memory_needs(study_of(experiment), KNOWN["gpt2"], Rows(10, 10, 10), accelerator=False)}
    assert stages == {"all", "observe"}


def test_the_peak_is_the_largest_stage_with_the_model() -> None:
    needs = [Need("all", "", 10), Need("a", "", 5), Need("b", "", 3), Need("b", "", 4)]
    assert peak(needs) == (17, "b")


def test_of_a_stages_phases_the_largest_counts() -> None:
    needs = [Need("all", "", 10), Need("all", "", 6, phase="loading"), Need("a", "", 5), Need("a", "", 3, phase="one")]
    needs += [Need("a", "", 4, phase="two"), Need("a", "", 4, phase="two"), Need("b", "", 1)]
    assert stage_peaks(needs) == {"a": 10 + 5 + 8, "b": 10 + 1 + 6}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def examine(tmp_path: Path, model: ModelConfig, benchmark: BenchmarkConfig | None = None) -> dict[str, Any]:
    benchmark = benchmark or BenchmarkConfig(authors=40)
    return doctor.examine(Experiment(model=model, benchmark=benchmark, run=RunConfig(outputs=str(tmp_path / "out"))))


def test_everything_in_place_gives_no_problem(tmp_path: Path, offline: None) -> None:
    found = examine(tmp_path, ModelConfig(layers=[2, 3]))
    assert found["problems"] == []
    assert found["hub"]["reachable"] is False
    assert found["model"]["layers"] == [2, 3]
    assert found["rows"]["forget"] > 0
    assert not (tmp_path / "out").exists()


def test_a_named_list_of_refusals_is_not_looked_up_as_a_file(tmp_path: Path, offline: None) -> None:
    words = ["doctor", "model=mini", "edit=default", "--json", "--outputs", str(tmp_path / "out")]
    for token in ("token=default", "token=reference", "token.targets=long"):
        assert json.loads(CliRunner().invoke(app, [*words, token]).stdout)["problems"] == []
    found = CliRunner().invoke(app, [*words, f"token.targets={tmp_path / 'gone'}"])
    assert f"token.targets={tmp_path / 'gone'}: missing" in json.loads(found.stdout)["problems"]


def test_missing_and_incomplete_folders_are_problems(tmp_path: Path, offline: None) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    incomplete = examine(tmp_path, ModelConfig(path=str(tmp_path / "model")))
    assert "no *.safetensors, tokenizer*" in incomplete["problems"][0]
    assert "no n" not in incomplete["problems"][-1]
    missing = examine(
        tmp_path, ModelConfig(path=str(tmp_path / "gone")), BenchmarkConfig(data_dir=str(tmp_path / "gone"))
    )
    assert [p.partition("=")[0] for p in missing["problems"]] == ["model.path", "benchmark.data_dir"]


def test_a_layer_that_the_model_lacks_and_too_little_memory_are_problems(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "machine_memory", lambda: (2**20, 2**20))
    problems = examine(tmp_path, ModelConfig(layers=[4, 40]))["problems"]
    assert "layer 40 is out of range: the model has blocks 0..5" in problems
    assert any(problem.startswith("memory of cpu: about") for problem in problems)


def test_the_command_prints_about_ten_lines_and_fails_on_problems(tmp_path: Path, offline: None) -> None:
    runner = CliRunner()
    words = ["doctor", "model=mini", "--outputs", str(tmp_path / "out")]
    healthy = runner.invoke(app, words)
    assert healthy.exit_code == 0, healthy.stderr
    lines = [line for line in healthy.stderr.splitlines() if line.strip()]
    assert 6 <= len(lines) <= 12
    assert [line.split()[0] for line in lines[:-1]] == ["versions", "device", "hub", "model", "memory", "disk"]
    assert "free" in lines[-2]
    assert lines[-1].startswith("no problems found")
    assert json.loads(runner.invoke(app, [*words, "--json"]).stdout)["problems"] == []
    sick = runner.invoke(app, [*words[:1], "model=hf", f"model.path={tmp_path / 'gone'}"])
    assert sick.exit_code == 1
    assert f"problem: model.path={tmp_path / 'gone'}: missing" in sick.stderr


def test_all_shows_every_version_device_and_estimate(tmp_path: Path, offline: None) -> None:
    words = ["doctor", "--all", "model=mini", "--outputs", str(tmp_path / "out")]
    told = CliRunner().invoke(app, words).stderr
    for text in ("Versions", "safetensors", "Devices", "Estimate: memory", "weights that an edit changes", "no problems found"):
        assert text in told
    needs = examine(tmp_path, ModelConfig(layers=[2, 3]))["memory"]["needs"]
    assert len(needs) > 20
    assert all(need["what"] in told for need in needs)
