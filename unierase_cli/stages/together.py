"""Stages that several processes run together: the first one keeps the store and speaks, the others take part when told."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.stages.base import StageContext, load_stage
from unierase_cli.store.artefacts import Artefact
from unierase_cli.training import processes


def is_follower() -> bool:
    """Whether this is one of several processes and not the first."""
    return processes.rank() > 0


def is_joint(stage: str, experiment: Experiment) -> bool:
    """Whether all processes take part: where something is trained by gradients."""
    return stage == "finetune" or (stage == "erase" and not experiment.method.editing)


def announce(stage: str, context: StageContext) -> None:
    """Tell the other processes which stage starts, and where."""
    if processes.world() > 1 and is_joint(stage, context.experiment):
        inputs = {name: (str(artefact.path), artefact.manifest) for name, artefact in context.inputs.items()}
        processes.tell((stage, str(context.directory), inputs, context.options, context.resuming))


def follow(experiment: Experiment) -> None:
    """What every process but the first does: run the announced stages, until dismissed.

    A user's mistake is passed over: the first process, which makes the same one, tells it and dismisses.
    """
    while (order := processes.hear()) is not None:
        stage, directory, inputs, options, resuming = order
        artefacts = {name: Artefact(Path(path), manifest) for name, (path, manifest) in inputs.items()}
        context = StageContext(experiment, Path(directory), artefacts, SilentReporter(), options, resuming)
        with suppress(UserError):
            load_stage(stage).run(context)
    processes.leave()


def dismiss() -> None:
    """Let the other processes go."""
    processes.tell(None)
    processes.leave()
