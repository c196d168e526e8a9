"""The compare command: compares two finished runs question by question."""

from __future__ import annotations

from typing import Annotated

import typer

from unierase_cli.cli import options
from unierase_cli.cli.complete import complete_run
from unierase_cli.cli.render import emit_json
from unierase_cli.contracts import UserError

# Characters of an answer in the terminal; --json prints whole answers.
WIDTH = 160
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN RUN",
        help="Two finished runs, each a path, NAME@v003, the start of a key, or latest; a NAME without its seed (or a pattern) "
        "means all its seeds, compared pair by pair.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="A,B", help="Columns (forget.rouge), metrics (rouge), splits (retain_near), or all."),
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=0, help="Show the N questions that changed most, per split.")]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Compare even if the benchmark, the protocol or the unedited model differs.")
]
Folder = Annotated[str, typer.Option("--outputs", metavar="FOLDER", help="Folder of the artefacts.")]


def compare(
    context: typer.Context,
    runs: Runs = None,
    metrics: Metrics = None,
    top: Top = 5,
    anyway: Anyway = False,
    outputs: Folder = "outputs",
    json: options.Json = False,
) -> None:
    context.obj.outputs = outputs
    words = runs or []
    for word in words:
        if "=" in word:
            raise UserError(f"{word} does not apply to a comparison of finished runs", "unierase compare RUN RUN --outputs FOLDER")
    from unierase_cli.results.two_runs.pair import compare_pair
    from unierase_cli.store.artefacts import Store

    wanted = [part for part in (metrics or "").replace(" ", "").split(",") if part]
    if metrics is not None and not wanted:
        raise UserError("--metrics names nothing", "--metrics forget.rouge,retain_unseen.rouge")
    compared = compare_pair(Store(outputs, once=True), words, metrics=wanted, top=top, anyway=anyway)
    if json:
        emit_json(compared.to_json())
        return
    from unierase_cli.cli.tables import show
    from unierase_cli.results.two_runs.tables import tables

    console = context.obj.reporter.console
    for table in tables(compared, width=WIDTH):
        show(console, table)
    for remark in compared.remarks:
        console.print(f"note: {remark}", soft_wrap=True)
