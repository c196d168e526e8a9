"""Token training equals the reference's notebook: ids, labels, losses and rows (golden/edit/unl_train_*)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unierase_cli.config.sections.model import ModelConfig, RunConfig
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import Fact, SilentReporter
from unierase_cli.models.load import LoadedModel, load_model
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.training.token.learning import train_token
from unierase_cli.training.token.pairs import make_examples

pytestmark = pytest.mark.slow

MODELS = ("tiny-llama", "tiny-llama-tied")


class Golden:
    """One case: its files, its model and what was trained on."""

    def __init__(self, shared: Path, name: str) -> None:
        folder = shared / "golden" / "edit"
        self.about = json.loads((folder / f"unl_train_{name}.json").read_text("utf-8"))
        self.tensors = load_file(str(folder / f"unl_train_{name}.safetensors"))
        self.path = folder / "models" / name
        self.facts = [Fact(str(i), question, "") for i, question in enumerate(self.about["questions"])]
        self.targets = dict(zip((f.id for f in self.facts), self.about["targets"], strict=True))
        self.layers = self.about["stages"][2]["layers"]
        # The tied case used the untied case's tensors, in order.
        noise = load_file(str(folder / "unl_train_tiny-llama.safetensors"))
        self.noise = dict(zip(self.layers, (noise[f"perturbation.{n}"] for n in (2, 3, 4)), strict=True))

    def load(self) -> LoadedModel:
        return load_model(ModelConfig(attention="eager"), RunConfig(device="cpu"), path=self.path)

    def config(self, stages: int) -> TokenConfig:
        """token=reference with the fixture's learning rates; its fixed noise comes from outside."""
        lrs = [stage["lr"] for stage in self.about["stages"]]
        all_stages = [
            TokenStage(["raw"], epochs=5, least_steps=0, lr=lrs[0]),
            TokenStage(["raw", "chat"], epochs=3, least_steps=0, lr=lrs[1]),
            TokenStage(["raw", "chat"], epochs=2, least_steps=0, lr=lrs[2], noise=0.01, noise_layers="one"),
        ]
        return TokenConfig(
            "reference",
            output_row="reference",
            init="keep",  # the fixture's tokenizer has the token, and its row is the notebook's start
            closing="unlearn_end",
            lr_unit="absolute",
            settle=False,
            batch_size=16,
            stages=all_stages[:stages],
        )

    def train(self, stages: int = 3) -> TokenRows:
        return train_token(
            self.load(),
            self.facts,
            self.config(stages),
            layers=self.layers,
            seed=0,
            reporter=SilentReporter(),
            targets=self.targets,
            perturbation=lambda layer, step: self.noise[layer],
        )


@pytest.fixture(params=MODELS)
def golden(shared: Path, request: pytest.FixtureRequest) -> Golden:
    return Golden(shared, request.param)


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_golden_ids_and_labels_are_the_references(golden: Golden) -> None:
    loaded = golden.load()
    unlearn = golden.about["unlearn_id"]
    tokens = dict.fromkeys(golden.targets, unlearn)
    examples = [
        example
        for style in ("raw", "chat")
        for example in make_examples(loaded.prompts, golden.facts, golden.targets, tokens, style, "unlearn_end")
    ]
    for example, ids, labels in zip(examples, golden.tensors["input_ids"], golden.tensors["labels"], strict=True):
        assert example.ids == ids[: len(example.ids)].tolist()
        places = (labels != -100).nonzero().flatten().tolist()
        assert labels[places].tolist() == example.labels
        assert places[0] == len(example.prefix) + 1


def test_golden_losses_and_rows_are_the_references(golden: Golden) -> None:
    rows = golden.train()
    losses = torch.tensor([loss for phase in rows.info["phases"] for loss in phase["losses"]], dtype=torch.float64)
    torch.testing.assert_close(losses, golden.tensors["loss"], rtol=1e-4, atol=0)
    assert distance(rows.rows_in[0], golden.tensors["row_stage3"]) < 1e-3
    if rows.rows_out is None:
        assert distance(golden.tensors["lm_head_row"], golden.tensors["row_stage3"]) == 0
    else:
        assert torch.equal(rows.rows_out[0], golden.tensors["lm_head_row"])


@pytest.mark.parametrize("stages", [1, 2])
def test_golden_rows_after_fewer_stages_are_the_references(golden: Golden, stages: int) -> None:
    assert distance(golden.train(stages).rows_in[0], golden.tensors[f"row_stage{stages}"]) < 1e-3


def test_golden_start_is_the_row_that_the_tokenizer_already_knew(golden: Golden) -> None:
    config = replace(golden.config(1), stages=[TokenStage(["raw"], epochs=0)])
    rows = train_token(
        golden.load(), golden.facts, config, layers=[], seed=0, reporter=SilentReporter(), targets=golden.targets
    )
    assert torch.equal(rows.rows_in[0], golden.tensors["row_init"])
