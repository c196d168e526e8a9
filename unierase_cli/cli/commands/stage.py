"""The commands that make artefacts: each is a stage, with everything before it made as needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Chosen, with_shared_options
from unierase_cli.cli.session import stage_command
from unierase_cli.pipeline.stage_table import stage_of

if TYPE_CHECKING:
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact


# The command that makes more than one stage and what that needs.
EVAL = "eval"
# Command -> the benchmark that it is for, unless another is named.
BENCHMARKS = {"prepare": "world", "prepare-return": "return"}


def callback(name: str) -> Callable[..., None]:
    """The function behind a command."""
    stage = stage_of(name)

    def make(pipeline: Pipeline) -> Artefact:
        if stage == "prepare":
            from unierase_cli.pipeline.stage import load_stage

            # What it reads of the model counts as asked for too.
            if "ask" in load_stage(stage).needs(pipeline.study, {}):
                pipeline.make("ask")
        if name != EVAL:
            return pipeline.make(stage)
        from unierase_cli.pipeline.evaluation import asked_by_evaluation, last_of_evaluation

        # All of it counts as asked for, so that --no-chain makes it.
        for request in asked_by_evaluation(pipeline.study):
            pipeline.make(request.stage, **request.values)
        return pipeline.make(last_of_evaluation(pipeline.study))

    @with_shared_options()
    def call(context: typer.Context, chosen: Chosen, words: options.Words = None) -> None:
        typed, benchmark = words or [], chosen.values["benchmark"]
        if benchmark is None and not any(word.startswith("benchmark=") for word in typed):
            benchmark = BENCHMARKS.get(name)
        stage_command(context.obj, name, chosen.wishes(typed, benchmark=benchmark), make, stage)

    return call
