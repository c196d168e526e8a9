"""The commands that make artefacts: each is a stage, with everything before it made as needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Wishes, as_words
from unierase_cli.cli.session import stage_command

if TYPE_CHECKING:
    from unierase_cli.stages.pipeline import Pipeline
    from unierase_cli.store.artefacts import Artefact


# The stage in which an evaluation ends; a mode may have another.
SCORE = "score"
# Command -> the stage that it makes.
STAGES = {
    "run": "report",
    "prepare-return": "prepare_return",
    "finetune": "finetune",
    "train-token": "train_token",
    "moments": "moments",
    "edit": "erase",
    "erase": "erase",
    "eval": SCORE,
}
# Command -> the benchmark that it is for, unless another is named.
BENCHMARKS = {"prepare-return": "return"}


def callback(name: str) -> Callable[..., None]:
    """The function behind a command."""
    stage = STAGES[name]

    def make(pipeline: Pipeline) -> Artefact:
        if stage != SCORE:
            return pipeline.make(stage)
        from unierase_cli.stages.planning import asked_by_evaluation, last_of_evaluation

        # All of it counts as asked for, so that --no-chain makes it.
        for request in asked_by_evaluation(pipeline.experiment):
            pipeline.make(request.stage, **request.values)
        return pipeline.make(last_of_evaluation(pipeline.experiment))

    def call(
        context: typer.Context,
        words: options.Words = None,
        experiment: options.ExperimentName = None,
        model: options.ModelName = None,
        benchmark: options.BenchmarkName = None,
        method: options.MethodName = None,
        mode: options.ModeName = None,
        seed: options.Seed = None,
        outputs: options.Outputs = None,
        device: options.Device = None,
        config_dir: options.ConfigDir = None,
        dry_run: options.DryRun = False,
        print_config: options.PrintConfig = False,
        json: options.Json = False,
        force: options.Force = False,
        no_chain: options.NoChain = False,
    ) -> None:
        if benchmark is None and not any(word.startswith("benchmark=") for word in words or []):
            benchmark = BENCHMARKS.get(name)
        named = as_words(
            words,
            experiment=experiment,
            model=model,
            benchmark=benchmark,
            method=method,
            mode=mode,
            seed=seed,
            outputs=outputs,
            device=device,
            force=force,
            no_chain=no_chain,
        )
        wishes = Wishes(named, config_dir, dry_run, print_config, json)
        stage_command(context.obj, name, wishes, make, stage)

    return call
