"""Recomputes a sequence without some of its steps, as if they had never been requested.

Token and moments do not depend on the requests and are reused. Every step is edited again; steps before the dropped one
come out bit-identical.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter, UserError
from unierase_cli.delivery.leaving import at_home, check_complete, withheld
from unierase_cli.delivery.patches import Chosen, choose_steps
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.recorded_files import own_benchmark
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store


def replan(
    chosen: Chosen, reporter: Reporter, *, outputs: str, device: str = "auto", model: str | None = None
) -> Chosen:
    """The erase artefact of the same run without ``chosen.dropped``, made if missing, with the steps that replace the kept ones
    and without ``chosen.parts_dropped``.

    ``model``: folder of the unedited model, for an exported run, which does not record it. Raises UserError if nothing
    was dropped, if the mode has no consecutive steps, or if an exported run lacks settings and is not in ``outputs``.
    """
    if not chosen.dropped:
        raise UserError("--replan needs a dropped step", "--drop K --replan")
    experiment = _experiment(chosen.erasure, outputs, model, reporter)
    if not study_of(experiment).stepwise:
        raise UserError(f"mode={experiment.mode.name} has no consecutive steps", "leave out --replan")
    # Step numbers do not count the steps that the run itself left out.
    count = chosen.erasure.told("steps", int) + len(set(experiment.mode.leave_out))
    asked = [index for index in range(count) if index not in experiment.mode.leave_out]
    without = sorted({*experiment.mode.leave_out, *(asked[step] for step in chosen.dropped)})
    last = max(chosen.steps)
    until = last - bisect_right(chosen.dropped, last)
    again = replace(
        experiment,
        mode=replace(experiment.mode, leave_out=without),
        run=replace(experiment.run, outputs=outputs, device=device, force=False),
    )
    return choose_steps(Pipeline(again, reporter).make("erase"), until, parts=chosen.parts_dropped)


def _experiment(erasure: Artefact, outputs: str, model: str | None, reporter: Reporter) -> Experiment:
    """The run's configuration; for an exported run the one recorded in ``outputs``, else the exported part."""
    erasure = at_home(erasure, Store(outputs))
    check_complete(erasure, "computing its steps again", without="model.path")
    experiment = own_benchmark(erasure, Experiment.from_json(erasure.config), reporter)
    if "model.path" not in withheld(erasure):
        return experiment
    return replace(experiment, model=replace(experiment.model, path=model))
