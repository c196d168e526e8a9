"""The shipped model and training presets: complete, consistent with the rule of thumb, honest about what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from tests.helpers.places import CONF
from unierase_cli.config.sections.model import ModelConfig, TrainConfig
from unierase_cli.models.architecture import find_architecture

MODELS = sorted((CONF / "model").glob("*.yaml"))
# Presets that were tried on real weights: their own, or others of the same architecture. All others only on random ones.
MEASURED = {
    **dict.fromkeys(("mini", "tofu_mini", "smollm2_135m_instruct"), "weights"),
    **dict.fromkeys(("smollm2_360m_instruct", "smollm2_1_7b_instruct", "gemma_3_270m_it"), "architecture"),
}
# Presets whose blocks nobody has traced: they follow the rule for their depth.
BY_RULE = [
    "gemma_2_2b_it", "gemma_2_9b_it", "gemma_3_1b_it", "gemma_3_4b_it", "phi_2", "phi_3_5_mini_instruct", "phi_4_mini_instruct",
    "pythia_6_9b", "olmo_2_7b_instruct", "falcon_7b_instruct", "stablelm_2_zephyr_1_6b", "qwen3_8b", "smollm2_135m_instruct",
    "smollm2_360m_instruct", "smollm2_1_7b_instruct", "qwen2_5_0_5b_instruct", "gemma_3_270m_it",
]  # fmt: skip


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_preset_is_valid_and_says_why_it_edits_where(path: Path) -> None:
    text = path.read_text("utf-8")
    config = ModelConfig(**yaml.safe_load(text))
    assert config.name == path.stem
    assert config.verified == MEASURED.get(path.stem, "random")
    # A trial on real weights names its command and its date.
    assert bool(re.search(r", 20\d\d-\d\d-\d\d$", config.verified_by)) == (path.stem in MEASURED)
    assert config.note
    assert "lock" in text.split("layers:")[0]  # a comment about the blocks stands above them
    assert config.layers is None or config.layers == sorted(set(config.layers))


@pytest.mark.parametrize("name", BY_RULE)
def test_a_preset_that_nobody_has_traced_follows_the_rule_for_its_depth(name: str) -> None:
    preset = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text("utf-8"))
    blocks = int(re.match(r"(\d+) blocks", preset["note"])[1])
    model = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_head=1, n_layer=blocks, n_positions=8))
    assert preset["layers"] == find_architecture(model).default_layers()


def test_one_billion_parameters_are_not_edited_in_the_layers_of_eight() -> None:
    for name in ("llama_3_2_1b_instruct", "tofu_llama_3_2_1b_full"):
        assert yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())["layers"] == [2, 3, 4]


@pytest.mark.parametrize("name", ["none", "mini"])
def test_a_training_preset_is_valid(name: str) -> None:
    config = TrainConfig(**yaml.safe_load((CONF / "train" / f"{name}.yaml").read_text("utf-8")))
    assert config.name == name
    assert config.split == "full"
