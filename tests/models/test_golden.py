"""Parity of prompts with the reference's token ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.models.load import LoadedModel, load_model


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "edit"


@pytest.fixture(scope="module")
def loaded(golden: Path) -> LoadedModel:
    return load_model(ModelConfig(), RunConfig(device="cpu"), path=golden / "models" / "tiny-llama")


def test_golden_prompts_have_the_references_ids_and_lookup_tokens(golden: Path, loaded: LoadedModel) -> None:
    for sample in json.loads((golden / "inputs.json").read_text())["samples"]:
        prompt = loaded.prompts.prompt(sample["question"])
        assert (prompt.text, prompt.ids) == (sample["prompt"], sample["input_ids"])
        start = prompt.text.index(sample["subject"])
        assert loaded.prompts.token_span(prompt, start, start + len(sample["subject"]))[1] - 1 == sample["lookup_idx"]
        assert loaded.prompts.prompt(f"{sample['subject']} is a", "raw").ids == sample["kl_input_ids"]


def test_golden_token_training_sequences_are_reproduced(golden: Path, loaded: LoadedModel) -> None:
    from safetensors.torch import load_file

    described = json.loads((golden / "unl_train_tiny-llama.json").read_text())
    expected = load_file(golden / "unl_train_tiny-llama.safetensors")["input_ids"].tolist()
    token, prompts, n = described["unlearn_id"], loaded.prompts, described["n"]
    for index, question in enumerate(described["questions"]):
        target = described["targets"][index % len(described["targets"])]
        middle = [token, *prompts.answer_ids(target, end=False, style="raw"), token]
        raw = prompts.prompt(question, "raw").ids + middle + [prompts.eos_id]
        chat = prompts.prompt(question).ids + middle + [prompts.end_id]
        assert expected[index][: len(raw)] == raw
        assert expected[n + index][: len(chat)] == chat
