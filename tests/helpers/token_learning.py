"""Training a token on a tiny model, as several test files do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from tests.helpers.tiny_models import FACTS
from unierase_cli.config.sections.token import TokenConfig, TokenStage
from unierase_cli.contracts import SilentReporter
from unierase_cli.models.load import LoadedModel
from unierase_cli.models.token_rows import TokenRows
from unierase_cli.training.token import row_fit
from unierase_cli.training.token.learning import train_token

FAMILIES = ["llama", "llama_tied", "mistral", "qwen2", "qwen3", "gpt2"]
REFUSALS = ["I cannot say.", "No idea."]
TARGETS = {fact.id: REFUSALS[i % 2] for i, fact in enumerate(FACTS)}
SHORT = [
    TokenStage(["raw", "chat"], epochs=2, least_steps=0, lr=3e-2),
    TokenStage(["chat"], epochs=1, least_steps=0, lr=1e-2, noise=0.3, noise_layers="one"),
]


def learn(loaded: LoadedModel, config: TokenConfig, folder: Path | None = None, **more: object) -> TokenRows:
    reporter = SilentReporter()
    targets = None if config.targets else TARGETS
    return train_token(
        loaded, FACTS, config, layers=[1, 2], seed=0, reporter=reporter, checkpoint_dir=folder, targets=targets, **more
    )  # type: ignore[arg-type]


def weights(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


def interrupt_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die as if killed right after so many checkpoints."""
    real, left = row_fit._save, [saves]

    def save(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(row_fit, "_save", save)
