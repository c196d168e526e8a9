"""The check command: an experiment's numbers, of a finished run or of one made now, against the recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from unierase_cli.cli.commands.report import check_of_finished
from unierase_cli.cli.commands.stage import EVAL, maker
from unierase_cli.cli.complete import complete_run_or_word
from unierase_cli.cli.options import Chosen, Wishes, runs_and_words, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.session import Journal, compose_for, stage_command
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.config.schema import Experiment
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact
    from unierase_cli.store.artefacts import Store

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] experiment=NAME KEY=VALUE",
        help="An experiment with recorded numbers, and a finished RUN of it (a path, NAME@v003, the start of a key, or latest). "
        "Without RUN the experiment is run, with its further words (model.path=...), or a finished run of them reused.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]
NAMED, SCORE = "experiment=", "score"


@with_shared_options("method", "mode", "model", "benchmark")
def check(context: typer.Context, chosen: Chosen, words: Words = None) -> None:
    runs, typed = runs_and_words(words)
    wishes = chosen.wishes(typed)
    named = [word.removeprefix(NAMED) for word in wishes.words if word.startswith(NAMED)]
    if len(named) != 1:
        raise UserError("unierase check needs one experiment", "unierase check experiment=demo")
    from unierase_cli.rerun.recorded import check_seed, recorded_words
    from unierase_cli.store.artefacts import Store

    journal: Journal = context.obj
    measured_with = recorded_words(named[0])
    if not runs:
        asked = chosen.wishes([*measured_with, *typed])

        def finish(artefact: Artefact, pipeline: Pipeline) -> None:
            _tell(journal, wishes.json, pipeline.store, str(artefact.path), named[0], asked.words)

        def settle(experiment: Experiment) -> Experiment:
            check_seed(named[0], experiment.run.seed)
            return experiment

        stage_command(journal, "check", asked, maker(EVAL), SCORE, settle=settle, finish=finish)
        return
    own = [word for word in wishes.words if not word.startswith(NAMED)]
    check_of_finished(replace(wishes, words=own), "leave out {word}")
    if len(runs) > 1:
        raise UserError("unierase check takes one RUN", f"unierase check {runs[0]} experiment={named[0]}")
    config = compose_for(journal, Wishes(own, wishes.config_dir)).run
    _tell(journal, wishes.json, Store(config.outputs), runs[0], named[0])


def _tell(
    journal: Journal, as_json: bool, store: Store, word: str, experiment: str, typed: Sequence[str] | None = None
) -> None:
    from unierase_cli.rerun.against_recorded import check_run, check_tables, sentence
    from unierase_cli.results.runs import find_runs

    found = check_run(find_runs(store, [word])[-1], experiment, typed)
    if as_json:
        emit_json(found)
    else:
        from unierase_cli.cli.tables import show

        console = journal.reporter.console
        for table in check_tables(found):
            show(console, table)
        if found["words"]:
            console.print(f"note: other settings than the experiment's: {' '.join(found['words'])}", soft_wrap=True)
        if found["given"]:
            console.print(f"given, and not compared with what was recorded: {' '.join(found['given'])}", soft_wrap=True)
        console.print(sentence(found), style="bold", soft_wrap=True)
    if not found["same"]:
        raise typer.Exit(1)
