"""Stages that several processes run together: the first one owns the store and reports, the others take part when told.

A process that fails during training must not wait for the others, because they wait for it: it exits at once, and the
launcher (torchrun, accelerate) ends the rest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline.stage import StageContext, load_stage
from unierase_cli.pipeline.stage_table import STAGES
from unierase_cli.pipeline.study import Study, study_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.training import processes

# Seconds that a failing process waits for the first one, which usually fails in the same way and reports it better.
COURTESY = 30.0


def is_follower() -> bool:
    """Whether this is one of several processes but not the first."""
    return processes.rank() > 0


@contextmanager
def announced(stage: str, context: StageContext) -> Iterator[None]:
    """Make the other processes run the stage while this one does; if it fails here, they are left alone."""
    joint = processes.world() > 1 and STAGES[stage].joint(context.experiment)
    if joint:
        inputs = {name: (str(artefact.path), artefact.manifest) for name, artefact in context.inputs.items()}
        # The experiment is sent too, because the retain reference is trained with another one than the command's.
        processes.tell((stage, context.experiment, str(context.directory), inputs, context.options, context.resuming))
    try:
        yield
    except BaseException:
        if joint:
            processes.go_on_alone()
        raise


def follow() -> None:
    """Run the announced stages until dismissed, in every process except the first."""
    study: Study | None = None
    while (order := processes.hear()) is not None:
        stage, experiment, directory, inputs, options, resuming = order
        study = study_of(experiment) if study is None else study.changed(experiment)
        artefacts = {name: Artefact(Path(path), manifest) for name, (path, manifest) in inputs.items()}
        context = StageContext(study, Path(directory), artefacts, SilentReporter(), options, resuming)
        try:
            load_stage(stage).run(context)
        except UserError as error:
            time.sleep(COURTESY)
            sys.stderr.write(f"error in process {processes.rank()}: {error}\n")
            sys.stderr.flush()
            os._exit(2)
    processes.leave()


def dismiss() -> None:
    """Dismiss the other processes."""
    processes.tell(None)
    processes.leave()
