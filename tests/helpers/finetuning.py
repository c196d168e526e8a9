"""Settings of a training that memorises the tiny facts, and its examples."""

from __future__ import annotations

from tests.helpers.tiny_models import FACTS
from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.models.load import LoadedModel
from unierase_cli.training.supervised import Example

CONFIG = TrainConfig(
    name="tiny", hidden_size=32, intermediate_size=64, layers=2, heads=2, vocabulary=300, epochs=40, batch_size=4, lr=5e-3,
    compute="float32", look_every=10, target_rouge=0.95,
)  # fmt: skip


def examples_of(loaded: LoadedModel) -> list[Example]:
    prompts = loaded.prompts
    return [Example(prompts.prompt(f.question).ids, prompts.answer_ids(f.answer)) for f in FACTS]
