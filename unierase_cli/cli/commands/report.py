"""The report command: one run's report, or a table over many finished runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unierase_cli.cli.complete import complete_run, complete_run_or_word
from unierase_cli.cli.options import Chosen, Wishes, runs_and_words, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.session import Journal, compose_for, stage_command
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.pipeline.pipeline import Pipeline
    from unierase_cli.store.artefact import Artefact


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|KEY=VALUE",
        help="Without RUN: one run's report, from any key of the configuration (see unierase ls keys). "
        "RUNs (a path, NAME@v003, the start of a key, latest, or a pattern such as 'score/tofu-forget01*'): "
        "one table over these finished runs.",
        autocompletion=complete_run_or_word,
        show_default=False,
    ),
]
Retain = Annotated[
    list[str] | None,
    typer.Option(
        "--retain",
        metavar="RUN",
        help="Comparison: a scored run of a model that never saw the forget set (again for each seed).",
        autocompletion=complete_run,
    ),
]


@with_shared_options()
def report(
    context: typer.Context,
    chosen: Chosen,
    words: Words = None,
    retain: Retain = None,
) -> None:
    runs, typed = runs_and_words(words)
    wishes = chosen.wishes(typed)
    if runs:
        compare(context.obj, runs, retain or [], wishes)
    elif retain:
        raise UserError("--retain needs runs to compare with", "unierase report RUN RUN --retain RUN")
    else:
        stage_command(context.obj, "report", wishes, _make, "report")


def _make(pipeline: Pipeline) -> Artefact:
    return pipeline.make("report")


def compare(journal: Journal, runs: Sequence[str], retain: Sequence[str], wishes: Wishes) -> None:
    """Compare finished runs. Only the ``run`` section of the configuration is read."""
    check_of_finished(wishes, f"leave out {{word}}, or name no RUN ({runs[0]})")
    from unierase_cli.results.many_runs.comparison import compare_runs
    from unierase_cli.store.artefacts import Store

    config = compose_for(journal, wishes).run
    store = Store(config.outputs)
    made = compare_runs(
        store,
        runs,
        retain=retain,
        reporter=journal.reporter,
        command=["unierase", *sys.argv[1:]],
        force=config.force,
    )
    from unierase_cli.cli.outcome import COMPARED, read_comparison, show_comparison, show_place

    if wishes.json:
        emit_json([_as_data(artefact, read_comparison(artefact)) for artefact in made])
        return
    for artefact in made:
        show_comparison(journal.reporter.console, artefact)
    if len(made) > 1:
        from unierase_cli.results.many_runs.together import together

        command = ["unierase", *sys.argv[1:]]
        whole = together(store, made, reporter=journal.reporter, command=command, force=config.force)
        show_place(journal.reporter.console, whole, COMPARED)


def check_of_finished(wishes: Wishes, hint: str) -> None:
    """Raise UserError for words and options that mean nothing to a table over finished runs. ``hint``: with ``{word}``."""
    for word in wishes.words:
        if not word.lstrip("+").startswith("run."):
            raise UserError(f"{word} does not apply to a comparison of finished runs", hint.format(word=word))
    if wishes.print_config or wishes.dry_run:
        option = "--print-config" if wishes.print_config else "--dry-run"
        raise UserError(f"{option} does not go with RUN: a comparison runs nothing", f"leave out {option}")


def _as_data(artefact: Artefact, compared: dict[str, Any]) -> dict[str, Any]:
    from unierase_cli.cli.outcome import as_data

    return {**as_data(artefact), **compared}
