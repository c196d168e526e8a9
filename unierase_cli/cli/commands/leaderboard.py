"""The leaderboard command: finished runs in one ranked table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unierase_cli.cli.commands.report import Retain, check_of_finished
from unierase_cli.cli.complete import complete_run_or_word
from unierase_cli.cli.options import Chosen, runs_and_words, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.session import compose_for
from unierase_cli.contracts import UserError

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Finished runs (a path, NAME@v003, the start of a key, latest, or a pattern such as 'score/tofu-forget01*'). "
        "Runs of other benchmarks, splits or models come into tables of their own.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]


@with_shared_options("experiment", "model", "benchmark", "method", "mode", "seed", "device", "no_chain")
def leaderboard(context: typer.Context, chosen: Chosen, words: Words = None, retain: Retain = None) -> None:
    runs, typed = runs_and_words(words)
    wishes = chosen.wishes(typed)
    if not runs:
        raise UserError("no RUN is named", "unierase leaderboard 'score/*' ranks all finished runs; `unierase ls score` lists them")
    check_of_finished(wishes, "leave out {word}")
    from unierase_cli.cli.outcome import outcome, show_outcome
    from unierase_cli.results.leaderboard.leaderboard import make_leaderboard
    from unierase_cli.store.artefacts import Store

    config = compose_for(context.obj, wishes).run
    store, command = Store(config.outputs), ["unierase", *sys.argv[1:]]
    made = make_leaderboard(
        store, runs, retain=retain or [], reporter=context.obj.reporter, command=command, force=config.force
    )
    if wishes.json:
        emit_json(outcome(made, store))
    else:
        show_outcome(context.obj.reporter.console, made, store)
