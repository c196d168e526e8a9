"""One command's run: compose, call the pipeline, show what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unierase_cli.cli.options import Wishes
from unierase_cli.cli.render import ConsoleReporter, emit_json
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact


@dataclass
class Journal:
    """What is known about the command under way when something goes wrong: where to write, and what was said so far."""

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
) -> None:
    """Run a stage's command. ``make`` makes its artefacts; ``wanted`` is the stage that --dry-run plans.

    ``settle``: what a command makes of the composed experiment; ``begin``: what it tells the pipeline before anything is planned.
    """
    if wishes.print_config:
        print_config(wishes)
        return
    from unierase_cli.pipeline import several_processes as together

    if together.is_follower():
        with suppress(UserError):  # a mistake in the configuration is told once, by the first process
            settle(compose_for(journal, wishes))
            together.follow()
        return
    experiment = settle(compose_for(journal, wishes))
    try:
        _lead(journal, name, wishes, make, wanted, experiment, begin)
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
) -> None:
    if name == "edit" and not experiment.method.editing:
        method = experiment.method.name
        raise UserError(f"method={method} does not edit in closed form", f"type unierase erase --method {method}")
    from unierase_cli.pipeline.pipeline import Pipeline

    def pipeline_of(experiment: Experiment) -> Pipeline:
        words = ["unierase", *sys.argv[1:]]
        return Pipeline(experiment, journal.reporter, command=words, overrides=wishes.words, like=study)

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
    # A mistake in what comes last is told before hours are spent on what comes first.
    pipeline.check(last)
    artefact = make(pipeline)
    from unierase_cli.cli.outcome import outcome, show_outcome

    if wishes.json:
        emit_json(outcome(artefact, pipeline.store))
    else:
        show_outcome(journal.reporter.console, artefact, pipeline.store)


def _without_a_model(journal: Journal, name: str, experiment: Experiment) -> None:
    """Of a mode that leaves no model behind: UserError for what needs one, a warning for what is not asked of each fact's."""
    mode, asked = experiment.mode.name, experiment.eval
    if name == "score":
        raise UserError(f"mode={mode} leaves no model to score: each fact is forgotten on its own", f"unierase eval --mode {mode}")
    unused = {"eval.passes": asked.passes, "eval.general": asked.general.wanted, "eval.retain_reference": asked.retain_reference}
    if named := [key for key, value in unused.items() if value]:
        journal.reporter.warn(f"mode={mode} asks each fact, its neighbours and far facts; it has no use for {', '.join(named)}")


def compose_for(journal: Journal, wishes: Wishes) -> Experiment:
    """The experiment, and the journal told where its outputs go."""
    from unierase_cli.config.compose import compose

    experiment = compose(wishes.words, wishes.config_dir)
    journal.outputs = experiment.run.outputs
    return experiment


def print_config(wishes: Wishes) -> None:
    """The composed configuration on stdout: yaml, with what each key means, that can be piped into a file, or JSON."""
    from unierase_cli.config.compose import to_json, to_yaml
    from unierase_cli.config.meanings import with_meanings

    if wishes.json:
        emit_json(to_json(wishes.words, wishes.config_dir))
    else:
        sys.stdout.write("# A composed configuration. `unierase ls keys` says what each key means.\n\n")
        sys.stdout.write(with_meanings(to_yaml(wishes.words, wishes.config_dir)))


def show_plan(journal: Journal, pipeline: Pipeline, wanted: str, wishes: Wishes) -> None:
    from unierase_cli.estimate.of_plan import plan_needs

    rows = pipeline.plan(wanted)
    needs = plan_needs(pipeline.study, rows)
    if wishes.json:
        emit_json([{**vars(row), **dict(zip(("memory", "disk"), needs.of(row), strict=True))} for row in rows])
        return
    from unierase_cli.cli.tables import plan_table, show

    show(journal.reporter.console, plan_table(rows, needs))
