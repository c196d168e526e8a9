"""Experiments of several steps on a tiny random model and a small fictional world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.quick_token import quick_token
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TermConfig
from unierase_cli.config.sections.token import TokenStage
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefact import Artefact

UNIERASE = MethodConfig(name="unierase")
GRADIENT = MethodConfig("npo_gd", "gradient", False, False, TermConfig("npo"), TermConfig("gd"))


def experiment(folder: Path, outputs: Path, mode: ModeConfig, **changes: Any) -> Experiment:
    """Six facts to forget, of two authors; few rows and few tokens, so that a whole run takes seconds."""
    settings: dict[str, Any] = {
        "model": ModelConfig(path=str(folder), key_position="prompt_last"),
        "benchmark": BenchmarkConfig(
            split="forget10", authors=20, questions=3, unseen_authors=2, near_authors=2, rows=6, protected_scored=4
        ),
        "mode": mode,
        "method": UNIERASE,
        "token": quick_token(folder.parent, stages=[TokenStage(epochs=1, least_steps=4)]),
        "edit": EditConfig(
            values=ValueConfig(steps=40, lr=0.5, lr_kind="relative", clamp=8.0, stop_loss=0.01, runner_up=0.0, kl_factor=0.0),
            moments=MomentsConfig(corpus="auto", max_tokens=12),
            threshold=0.5,
            lambda_=0.01,
        ),
        "unlearn": UnlearnConfig(epochs=2, batch_size=2, lr=3e-3, compute="float32", stop_retain_loss=100.0),
        "protocol": ProtocolConfig(max_new_tokens=4),
        "eval": EvalConfig(splits=["forget", "retain_unseen", "real_authors"], forget_variants=[], truth_ratio=False),
        "run": RunConfig(outputs=str(outputs), device="cpu"),
    }
    return Experiment(**{**settings, **changes})


def make(config: Experiment, stage: str, **options: str) -> Artefact:
    return Pipeline(config, SilentReporter()).make(stage, **options)
