"""The commands that make artefacts: each is a stage, with everything before it made as needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Chosen, with_shared_options
from unierase_cli.cli.session import stage_command

if TYPE_CHECKING:
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact


# The stage in which an evaluation ends; a mode may have another.
SCORE = "score"
# Command -> the stage that it makes.
STAGES = {
    "run": "report",
    "prepare": "prepare",
    "prepare-return": "prepare",
    "finetune": "finetune",
    "train-token": "train_token",
    "moments": "moments",
    "edit": "erase",
    "erase": "erase",
    "eval": SCORE,
}
# Command -> the benchmark that it is for, unless another is named.
BENCHMARKS = {"prepare": "world", "prepare-return": "return"}


def callback(name: str) -> Callable[..., None]:
    """The function behind a command."""
    stage = STAGES[name]

    def make(pipeline: Pipeline) -> Artefact:
        if stage == "prepare":
            from unierase_cli.pipeline.stage import load_stage

            # What it reads of the model counts as asked for too.
            if "ask" in load_stage(stage).needs(pipeline.experiment, {}):
                pipeline.make("ask")
        if stage != SCORE:
            return pipeline.make(stage)
        from unierase_cli.pipeline.evaluation import asked_by_evaluation, last_of_evaluation

        # All of it counts as asked for, so that --no-chain makes it.
        for request in asked_by_evaluation(pipeline.experiment):
            pipeline.make(request.stage, **request.values)
        return pipeline.make(last_of_evaluation(pipeline.experiment))

    @with_shared_options
    def call(context: typer.Context, chosen: Chosen, words: options.Words = None) -> None:
        typed, benchmark = words or [], chosen.values["benchmark"]
        if benchmark is None and not any(word.startswith("benchmark=") for word in typed):
            benchmark = BENCHMARKS.get(name)
        stage_command(context.obj, name, chosen.wishes(typed, benchmark=benchmark), make, stage)

    return call
