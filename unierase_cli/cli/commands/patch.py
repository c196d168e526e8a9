"""The commands patch apply, revert, diff and show: apply a run's changes to a model, revert them and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unierase_cli.cli import options
from unierase_cli.cli.amounts import size
from unierase_cli.cli.complete import complete_run
from unierase_cli.cli.options import Folder, Run
from unierase_cli.cli.render import emit_json

if TYPE_CHECKING:
    from unierase_cli.store.artefact import Artefact

ModelFolder = Annotated[str, typer.Argument(metavar="MODEL_DIR", help="A Hugging Face model folder.")]
NewFolder = Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        "--drop", metavar="K", help="Leave out the changes of step K, or of the part K of a chain (repeatable)."
    ),
]
Replan = Annotated[bool, typer.Option("--replan", help="Recompute the other steps as if step K had never been requested.")]
Original = Annotated[
    str | None,
    typer.Option("--base", metavar="FOLDER", help="The original model (folder or hub id), checked by hash."),
]
Other = Annotated[str, typer.Argument(metavar="RUN", help="The run to compare it with.", autocompletion=complete_run)]


def apply(
    context: typer.Context,
    model: ModelFolder,
    run: Run,
    out: NewFolder,
    step: options.Step = None,
    drop: Drop = None,
    replan: Replan = False,
    outputs: Folder = "outputs",
    device: options.OnDevice = "auto",
    json: options.Json = False,
) -> None:
    from unierase_cli.delivery.edited_folder import load_folder, write_edited
    from unierase_cli.delivery.patches import choose_steps, split_drop
    from unierase_cli.store.new_folder import check_free

    reporter = context.obj.reporter
    steps, parts = split_drop(drop or [])
    chosen = choose_steps(_erasure(context, run, outputs), step, steps, parts, replanned=replan)
    check_free(out)
    if replan:
        from unierase_cli.delivery.replan import replan as computed_again

        chosen = computed_again(chosen, reporter, outputs=outputs, device=device, model=model)
    result = write_edited(load_folder(chosen, model, reporter, device), chosen, out, reporter)
    if json:
        emit_json(result)


def revert(
    context: typer.Context,
    model: ModelFolder,
    run: Run,
    out: NewFolder,
    base: Original = None,
    outputs: Folder = "outputs",
    device: options.OnDevice = "auto",
    json: options.Json = False,
) -> None:
    from unierase_cli.delivery.patch_revert import revert

    erasure = _erasure(context, run, outputs)
    result = revert(Path(model), erasure, out, context.obj.reporter, base=base, device=device)
    if json:
        emit_json(result)


def diff(
    context: typer.Context,
    first: Run,
    second: Other,
    step: options.Step = None,
    outputs: Folder = "outputs",
    json: options.Json = False,
) -> None:
    from unierase_cli.delivery.patch_diff import compare_patches

    found = compare_patches(_erasure(context, first, outputs), _erasure(context, second, outputs), step)
    if json:
        emit_json(found)
        return
    from unierase_cli.cli.tables import show as draw
    from unierase_cli.delivery.patch_tables import diff_tables

    for table in diff_tables(found):
        draw(context.obj.reporter.console, table)


def show(context: typer.Context, run: Run, outputs: Folder = "outputs", json: options.Json = False) -> None:
    from unierase_cli.delivery.patch_show import describe

    found = describe(_erasure(context, run, outputs))
    if json:
        emit_json(found)
        return
    from unierase_cli.cli.tables import show as draw
    from unierase_cli.delivery.patch_tables import description_table

    draw(context.obj.reporter.console, description_table(found, size))


SUBCOMMANDS = {
    "apply": (apply, "Write MODEL_DIR with the changes of RUN as a plain Hugging Face folder."),
    "revert": (revert, "Recover the unedited model of a folder that apply or export made; checked by hashes."),
    "diff": (diff, "Show the differences between the patches of two runs."),
    "show": (show, "Show a run's steps: facts, layers, rank, size."),
}


def _erasure(context: typer.Context, run: str, outputs: str) -> Artefact:
    """The erase artefact that RUN is, or was made from."""
    from unierase_cli.delivery.export import find_erasure
    from unierase_cli.store.artefacts import Store

    context.obj.outputs = outputs
    store = Store(outputs)
    return find_erasure(store.resolve(run), store)
