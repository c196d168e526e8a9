"""Stages that compute nothing, for tests of what happens around them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from unierase_cli.pipeline.stage import Request, StageContext


def stand_in(
    name: str,
    run: Callable[[StageContext], dict[str, Any]],
    reads: Callable[[Any], dict[str, Any]] = lambda experiment: {"seed": experiment.run.seed},
) -> Any:
    """A stage module as the pipeline sees one: ``train_token`` needs nothing, every other needs it."""
    return SimpleNamespace(
        NAME=name,
        VERSION=1,
        reads=lambda study, options: reads(study.experiment),
        needs=lambda study, options: {} if name == "train_token" else {"token": Request("train_token")},
        fingerprints=lambda study, options: {},
        run=run,
    )
