"""Settings that train a token in a few short steps, for tests of what happens with it afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.token_learning import REFUSALS
from unierase_cli.config.sections.token import TokenConfig, TokenStage


def quick_token(folder: Path, **changes: Any) -> TokenConfig:
    """One epoch towards refusals of a few words, written to ``folder``, and no further rounds of refinement.

    The shipped refusals have up to a hundred tokens on a tiny tokenizer, and no random model learns them in the rounds that
    it is given: training and trying them out took four fifths of a run's time.
    """
    path = folder / "quick_refusals.txt"
    if not path.exists():
        path.write_text("\n".join(REFUSALS), "utf-8")
    settings = {"stages": [TokenStage(epochs=1, least_steps=0)], "refine_epochs": 1, "refine_rounds": 0}
    return TokenConfig(targets=str(path), **{**settings, **changes})
