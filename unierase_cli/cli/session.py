"""Runs one command: composes the experiment, calls the pipeline and shows the result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.cli.options import Wishes
from unierase_cli.cli.render import ConsoleReporter, emit_json
from unierase_cli.contracts import SilentReporter, UserError

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact
    from unierase_cli.tracking.base import Track


@dataclass
class Journal:
    """What error handling needs to know about the running command: where to write, and the messages so far."""

    reporter: ConsoleReporter = field(default_factory=ConsoleReporter)
    outputs: str = "outputs"


def stage_command(
    journal: Journal,
    name: str,
    wishes: Wishes,
    make: Callable[[Pipeline], Artefact],
    wanted: str,
    *,
    settle: Callable[[Experiment], Experiment] = lambda experiment: experiment,
    begin: Callable[[Pipeline], None] = lambda pipeline: None,
    finish: Callable[[Artefact, Pipeline], None] | None = None,
) -> None:
    """Run a stage's command. ``make`` makes its artefacts; ``wanted`` is the stage that --dry-run plans.

    ``settle``: what a command makes of the composed experiment; ``begin``: what it tells the pipeline before anything is planned;
    ``finish``: what it does with what was made, instead of showing it.
    """
    if wishes.print_config:
        print_config(wishes)
        return
    from unierase_cli.pipeline import several_processes as together

    if together.is_follower():
        with suppress(UserError):  # the first process reports a mistake in the configuration
            settle(compose_for(journal, wishes, quiet=True))
            together.follow()
        return
    experiment = settle(compose_for(journal, wishes))
    try:
        _lead(journal, name, wishes, make, wanted, experiment, begin, finish)
    finally:
        together.dismiss()


def _lead(
    journal: Journal,
    name: str,
    wishes: Wishes,
    make: Callable[[Pipeline], Artefact],
    wanted: str,
    experiment: Experiment,
    begin: Callable[[Pipeline], None],
    finish: Callable[[Artefact, Pipeline], None] | None,
) -> None:
    if name == "edit" and not experiment.method.editing:
        method = experiment.method.name
        raise UserError(f"method={method} is not a closed-form edit", f"unierase erase --method {method}")
    from unierase_cli.pipeline.pipeline import Pipeline

    track = None if wishes.dry_run else _track_of(experiment, wanted, journal.reporter.warn)

    def pipeline_of(experiment: Experiment) -> Pipeline:
        words, log = ["unierase", *sys.argv[1:]], None if track is None else track.log
        return Pipeline(experiment, journal.reporter, command=words, overrides=wishes.words, like=study, track=log)

    from unierase_cli.pipeline.evaluation import SCORE, last_of_evaluation
    from unierase_cli.pipeline.study import study_of

    study = study_of(experiment)
    if study.independent:
        _without_a_model(journal, name, experiment)
    elif wanted in ("score", "report"):
        from unierase_cli.stages.shared.choose_reference import planned_reference, with_reference

        settle = planned_reference if wishes.dry_run else with_reference
        experiment = settle(experiment, journal.reporter, pipeline_of)
    pipeline = pipeline_of(experiment)
    begin(pipeline)
    last = last_of_evaluation(study) if wanted == SCORE else wanted
    if wishes.dry_run:
        show_plan(journal, pipeline, last, wishes)
        return
    # Report mistakes in the last stage before spending hours on the first ones.
    pipeline.check(last)
    try:
        artefact = make(pipeline)
    except BaseException:
        if track is not None:
            track.finish({}, [], ok=False)
        raise
    if track is not None:
        from unierase_cli.cli.outcome import finals

        track.finish(*finals(artefact, pipeline.store), ok=True)
    if finish is not None:
        finish(artefact, pipeline)
        return
    from unierase_cli.cli.outcome import outcome, show_outcome

    if wishes.json:
        emit_json(outcome(artefact, pipeline.store))
    else:
        show_outcome(journal.reporter.console, artefact, pipeline.store)


def _track_of(experiment: Experiment, wanted: str, warn: Callable[[str], None]) -> Track | None:
    """The command's run in ``run.tracker``; raises UserError if its library is not installed."""
    if experiment.run.tracker == "none":
        return None
    from unierase_cli.pipeline.passed_over import flat
    from unierase_cli.pipeline.stage import slug
    from unierase_cli.tracking.base import Track

    name = slug(experiment, wanted, {})
    return Track(experiment.run.tracker, Path(experiment.run.outputs), name, flat(asdict(experiment)), warn)


def _without_a_model(journal: Journal, name: str, experiment: Experiment) -> None:
    """For a mode that leaves no model: UserError for a command that needs one, a warning for settings that are not used."""
    mode, asked = experiment.mode.name, experiment.eval
    if name == "score":
        raise UserError(f"mode={mode} leaves no model to score: each fact is forgotten on its own", f"unierase eval --mode {mode}")
    unused = {"eval.passes": asked.passes, "eval.general": asked.general.wanted, "eval.retain_reference": asked.retain_reference}
    if named := [key for key, value in unused.items() if value]:
        journal.reporter.warn(f"mode={mode} asks each fact, its neighbours and far facts; it does not use {', '.join(named)}")


def compose_for(journal: Journal, wishes: Wishes, *, quiet: bool = False) -> Experiment:
    """Compose the experiment and record its output folder in the journal; ``quiet``: without warnings."""
    from unierase_cli.config.compose import compose

    experiment = compose(wishes.words, wishes.config_dir, SilentReporter().warn if quiet else journal.reporter.warn)
    journal.outputs = experiment.run.outputs
    return experiment


def print_config(wishes: Wishes) -> None:
    """Print the composed configuration: yaml with the meaning of each key, which can be saved as a file, or JSON."""
    from unierase_cli.config.compose import to_json, to_yaml
    from unierase_cli.config.meanings import with_meanings

    if wishes.json:
        emit_json(to_json(wishes.words, wishes.config_dir))
    else:
        sys.stdout.write("# A composed configuration. `unierase ls keys` explains each key.\n\n")
        sys.stdout.write(with_meanings(to_yaml(wishes.words, wishes.config_dir)))


def show_plan(journal: Journal, pipeline: Pipeline, wanted: str, wishes: Wishes) -> None:
    from unierase_cli.estimate.of_plan import plan_needs

    rows = pipeline.plan(wanted)
    needs = plan_needs(pipeline.study, rows)
    if wishes.json:
        emit_json([{**vars(row), **needs.to_json(row)} for row in rows])
        return
    from unierase_cli.cli.tables import plan_table, show

    show(journal.reporter.console, plan_table(rows, needs))
