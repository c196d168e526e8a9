"""The rerun command: repeats a finished run from its manifest and compares the results."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Folder, Run
from unierase_cli.cli.render import emit_json
from unierase_cli.contracts import UserError

Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="X",
        help="Allowed difference X between numbers (relative for numbers above 1). Default: bitwise equal on the same kind of "
        "machine, metrics within 1e-6 on another.",
        show_default=False,
    ),
]
Since = Annotated[
    str | None, typer.Option("--from", metavar="STAGE", help="Repeat from this stage on; reuse earlier artefacts.")
]


def rerun(
    context: typer.Context,
    run: Run,
    tolerance: Tolerance = None,
    since: Since = None,
    outputs: Folder = "outputs",
    json: options.Json = False,
) -> None:
    context.obj.outputs = outputs
    if tolerance is not None and not tolerance >= 0:
        raise UserError(f"--tolerance {tolerance} is not a tolerance", "--tolerance 1e-6")
    from unierase_cli.pipeline import several_processes as together

    if together.is_follower():
        together.follow()
        return
    from unierase_cli.rerun.run_again import find_run, repeat
    from unierase_cli.rerun.verdict import result
    from unierase_cli.store.artefacts import Store

    store = Store(outputs)
    try:
        repeated = repeat(store, find_run(store, run), context.obj.reporter, ["unierase", *sys.argv[1:]], since)
    finally:
        together.dismiss()
    found = result(repeated, tolerance)
    if json:
        emit_json(found)
    else:
        from unierase_cli.cli.tables import show
        from unierase_cli.rerun.tables import tables, verdict

        console = context.obj.reporter.console
        for table in tables(found):
            show(console, table)
        console.print(verdict(found), style="bold", soft_wrap=True)
    if not found["same"]:
        raise typer.Exit(1)
