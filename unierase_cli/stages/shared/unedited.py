"""The answers of a model that its method leaves as it is: those of the unedited model, which are not asked for again."""

from __future__ import annotations

import shutil
from typing import Any

from unierase_cli.methods.traits import changes_nothing
from unierase_cli.pipeline.observation_files import PLAN
from unierase_cli.pipeline.stage import Request, StageContext
from unierase_cli.pipeline.study import Study
from unierase_cli.store.artefact import MANIFEST
from unierase_cli.store.json_text import ROWS, read_json, write_json
from unierase_cli.training import processes

UNEDITED = "unedited"


def same_answers(study: Study, stage: str, options: dict[str, str]) -> dict[str, Request]:
    """What this stage made of the unedited model, if the edited one is that model; empty for a step of a sequence."""
    same = options == {"state": "edited"} and changes_nothing(study.experiment.method)
    return {UNEDITED: Request(stage, (("state", "base"),))} if same else {}


def taken_over(context: StageContext) -> dict[str, Any] | None:
    """Copy the unedited model's files; returns its summary, or None if ``same_answers`` were not among the needs."""
    made = context.inputs.get(UNEDITED)
    if made is None:
        return None
    if processes.rank():
        return {}
    for path in made.files("*.json*"):
        if path.name != MANIFEST:
            shutil.copyfile(path, context.directory / path.name)
    state = {"state": context.options["state"]}
    write_json(context.directory / PLAN, {**read_json(context.directory / PLAN, ROWS), **state})
    context.reporter.note(f"the method changes nothing: answers of {made.path}")
    return {**made.summary, **(state if "state" in made.summary else {})}
