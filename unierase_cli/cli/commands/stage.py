"""The commands that make artefacts: each runs a stage, after everything that the stage needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Chosen, with_shared_options
from unierase_cli.cli.session import stage_command
from unierase_cli.contracts import UserError
from unierase_cli.pipeline.stage_table import stage_of

if TYPE_CHECKING:
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact


# The only command that makes several stages.
EVAL = "eval"
# Command -> its default benchmark.
BENCHMARKS = {"prepare": "world", "prepare-return": "return"}


def _last(words: Sequence[str], group: str) -> str | None:
    """The last choice typed for a group, or None."""
    return next((word.partition("=")[2] for word in reversed(words) if word.startswith(f"{group}=")), None)


def maker(name: str) -> Callable[[Pipeline], Artefact]:
    """What a command has a pipeline make."""
    stage = stage_of(name)

    def make(pipeline: Pipeline) -> Artefact:
        if stage == "prepare":
            from unierase_cli.pipeline.stage import load_stage

            # Questions that prepare needs answered count as requested, so that --no-chain makes them.
            if "ask" in load_stage(stage).needs(pipeline.study, {}):
                pipeline.make("ask")
        if name != EVAL:
            return pipeline.make(stage)
        from unierase_cli.pipeline.evaluation import asked_by_evaluation, last_of_evaluation

        # All of these count as requested, so that --no-chain makes them.
        for request in asked_by_evaluation(pipeline.study):
            pipeline.make(request.stage, **request.values)
        return pipeline.make(last_of_evaluation(pipeline.study))

    return make


def callback(name: str) -> Callable[..., None]:
    """The function that implements a command."""

    @with_shared_options()
    def call(context: typer.Context, chosen: Chosen, words: options.Words = None) -> None:
        typed: list[str] = list(words or [])
        named: dict[str, str] = {}
        if name in BENCHMARKS:
            groups = ("benchmark", "experiment")
            asked = {g: chosen.values[g] or _last(typed, g) for g in groups}
            if name == "prepare-return" and asked["benchmark"] not in (None, BENCHMARKS[name]):
                raise UserError("prepare-return makes only RETURN's splits", f"unierase prepare benchmark={asked['benchmark']}")
            # An experiment names its own benchmark.
            named = {} if any(asked.values()) else {"benchmark": BENCHMARKS[name]}
        stage_command(context.obj, name, chosen.wishes(typed, **named), maker(name), stage_of(name))

    return call
