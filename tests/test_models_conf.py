"""The shipped model and training presets: complete, consistent with the rule of thumb, honest about what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unierase_cli.config.sections.model import ModelConfig, TrainConfig

CONF = Path(__file__).resolve().parents[1] / "conf"
MODELS = sorted((CONF / "model").glob("*.yaml"))
MEASURED = {"mini", "tofu_mini"}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_preset_is_valid_and_says_why_it_edits_where(path: Path) -> None:
    text = path.read_text("utf-8")
    config = ModelConfig(**yaml.safe_load(text))
    assert config.name == path.stem
    assert config.verified == (path.stem in MEASURED)
    assert config.note
    assert "lock" in text.split("layers:")[0]  # a comment about the blocks stands above them
    assert config.layers is None or config.layers == sorted(set(config.layers))


def test_one_billion_parameters_are_not_edited_in_the_layers_of_eight() -> None:
    for name in ("llama_3_2_1b_instruct", "tofu_llama_3_2_1b_full"):
        assert yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())["layers"] == [2, 3, 4]


@pytest.mark.parametrize("name", ["none", "mini"])
def test_a_training_preset_is_valid(name: str) -> None:
    config = TrainConfig(**yaml.safe_load((CONF / "train" / f"{name}.yaml").read_text("utf-8")))
    assert config.name == name
    assert config.split == "full"
