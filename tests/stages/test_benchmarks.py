"""Benchmarks that a small model can learn, end to end: trained on the spot, unlearned, asked and scored, in every mode."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.benchmark_files import config
from tests.helpers.finetuning import CONFIG
from tests.helpers.quick_token import quick_token
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.edit import EditConfig, MomentsConfig, ValueConfig
from unierase_cli.config.sections.evaluation import EvalConfig, ProtocolConfig
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.config.sections.model import MethodConfig, ModelConfig, RunConfig, TermConfig
from unierase_cli.config.sections.unlearn import UnlearnConfig
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.jsonl import read_jsonl

pytestmark = pytest.mark.slow

PUSH = MethodConfig("me_gd", "gradient", False, False, TermConfig("me"), TermConfig("gd"))
HEADLINES = {
    "knowundo": ["forget_eval.rouge", "same_subject.rouge"],
    "pistol": ["distance_2.rouge", "factual.rouge", "forget.entity", "all.pistol_deviation"],
    "birthdays": ["retain_unseen.entity", "retain_unseen.choice", "holdout.rouge"],
    "analogue": ["forget_eval.rude_words", "forget.rude_register", "retain_unseen.polite_register"],
    "lume": ["forget.lume_task1_regurgitation", "retain.lume_task2_knowledge", "all.lume_aggregate", "all.lume_membership"],
}


def experiment(name: str, folder: Path, **changes: Any) -> Experiment:
    settings = {
        "model": ModelConfig(name="mini", layers=[1], key_position="prompt_last"),
        "train": replace(CONFIG, epochs=4, look_every=4),
        "benchmark": config(name, folder / "data"),
        "method": PUSH,
        "token": quick_token(folder),
        "edit": EditConfig(values=ValueConfig(steps=2), moments=MomentsConfig(max_tokens=12)),
        "unlearn": UnlearnConfig(epochs=1, batch_size=2, lr=3e-3, compute="float32", stop_retain_loss=100.0),
        "protocol": ProtocolConfig(max_new_tokens=6),
        "eval": EvalConfig(forget_variants=[]),
        "run": RunConfig(outputs=str(folder / "outputs"), device="cpu"),
    }
    return Experiment(**{**settings, **changes})


@pytest.mark.parametrize("name", HEADLINES)
def test_a_model_is_trained_on_it_unlearned_and_scored(name: str, tmp_path: Path) -> None:
    chosen = experiment(name, tmp_path)
    pipeline = Pipeline(chosen, SilentReporter())
    metrics = json.loads((pipeline.make("score").path / "metrics.json").read_text("utf-8"))
    for column in HEADLINES[name]:
        found = metrics["states"]["edited"][column]
        assert found["value"] is not None, found["unavailable"]
        assert math.isfinite(found["value"])


def test_edits_take_plain_text_and_questions_one_request_after_another(tmp_path: Path) -> None:
    chosen = experiment("lume", tmp_path, mode=ModeConfig("sequential", steps=2), method=MethodConfig("unierase"))
    run = Pipeline(chosen, SilentReporter()).make("erase")
    assert len(read_jsonl(run.path / "steps.jsonl")) == 2


def test_each_fact_is_forgotten_on_its_own(tmp_path: Path) -> None:
    chosen = experiment("pistol", tmp_path, mode=ModeConfig("precise"), method=MethodConfig("unierase"))
    rows = read_jsonl(Pipeline(chosen, SilentReporter()).make("precise").path / "facts.jsonl")
    assert [row["fact"] for row in rows] == [f"sample1-{number}" for number in range(4)]
