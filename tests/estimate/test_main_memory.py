"""The main memory that a run reserves on a cluster: its estimate, or with a GPU what loading the model takes."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.config.compose import compose
from unierase_cli.contracts import SilentReporter
from unierase_cli.estimate.memory_and_disk import PROCESS_BYTES
from unierase_cli.estimate.of_plan import main_memory, plan_needs
from unierase_cli.estimate.shapes import shape_of
from unierase_cli.pipeline.pipeline import Pipeline, PlanRow

WORDS = ["experiment=demo", "benchmark.authors=20", "benchmark.unseen_authors=4", "run.device=cpu"]


def test_on_a_cpu_it_is_the_largest_stage_that_is_left(tmp_path: Path) -> None:
    pipeline = Pipeline(compose([*WORDS, f"run.outputs={tmp_path}"]), SilentReporter())
    plan = pipeline.plan("score")
    stages = plan_needs(pipeline.study, plan).memory
    assert main_memory(pipeline.study, plan, accelerator=False) == max(stages.values()) > PROCESS_BYTES
    trained_only = [row for row in plan if row.stage == "finetune"]
    assert main_memory(pipeline.study, trained_only, accelerator=False) == stages["finetune"]


def test_with_a_gpu_it_is_the_process_and_the_stored_weights(tmp_path: Path) -> None:
    pipeline = Pipeline(compose([*WORDS, "run.device=auto", f"run.outputs={tmp_path}"]), SilentReporter())
    shape, _ = shape_of(pipeline.study.experiment)
    assert shape is not None
    assert main_memory(pipeline.study, pipeline.plan("score"), accelerator=True) == shape.parameters * shape.stored + PROCESS_BYTES


def test_of_a_model_that_is_not_here_nothing_is_known(tmp_path: Path) -> None:
    pipeline = Pipeline(compose([*WORDS, "model=hf", "model.path=nobody/nothing", f"run.outputs={tmp_path}"]), SilentReporter())
    plan = [PlanRow("observe base", "name", "key", "missing", None)]
    for accelerator in (False, True):
        assert main_memory(pipeline.study, plan, accelerator=accelerator) == 0
