"""The commands ls, show and doctor, which only read, and export, which writes a model."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Chosen, Folder, Run, with_shared_options
from unierase_cli.cli.render import emit_json
from unierase_cli.cli.session import compose_for, print_config
from unierase_cli.contracts import UserError

# Plural as users type it -> group.
PLURALS = {"models": "model", "benchmarks": "benchmark", "methods": "method", "modes": "mode", "tokens": "token"}
PLURALS |= {"edits": "edit", "trains": "train", "protocols": "protocol", "evals": "eval", "experiments": "experiment"}
What = Annotated[
    str | None,
    typer.Argument(
        metavar="[WHAT]", help="models, methods, losses, metrics, attacks, keys, ... or a stage; all artefacts if omitted."
    ),
]
Section = Annotated[
    str | None, typer.Argument(metavar="[SECTION]", help="After keys: list only this section (edit, edit.values).")
]


def ls(
    context: typer.Context,
    what: What = None,
    section: Section = None,
    outputs: Folder = "outputs",
    config_dir: options.ConfigDir = None,
    json: options.Json = False,
) -> None:
    from unierase_cli.cli.outcome import as_data
    from unierase_cli.cli.tables import artefact_table, choice_table, key_table, parts_table, show
    from unierase_cli.config import catalog
    from unierase_cli.config.locate import config_folders
    from unierase_cli.pipeline.stage import AUDITS, COMPARISON, LEADERBOARD
    from unierase_cli.pipeline.stage_table import STAGES
    from unierase_cli.stages.shared.part_names import KINDS, list_parts
    from unierase_cli.store.artefacts import Store

    console = context.obj.reporter.console
    if what == "keys":
        from unierase_cli.config.meanings import list_keys

        keys = list_keys(section)
        if json:
            emit_json([vars(key) for key in keys])
        else:
            show(console, key_table(keys))
        return
    if section is not None:
        raise UserError(f"ls {what} takes no further word, but got {section}", f"unierase ls {what}")
    folders = config_folders(config_dir)
    groups = catalog.groups(folders)
    group = PLURALS.get(what or "", what)
    if group in groups:
        found = catalog.choices(folders, group)
        if json:
            emit_json([{**vars(choice), "path": str(choice.path)} for choice in found])
        else:
            show(console, choice_table(group, found))
        return
    if what in KINDS:
        parts = list_parts(what)
        if json:
            emit_json([vars(part) for part in parts])
        else:
            show(console, parts_table(what, parts))
        return
    stage = None if what is None else what.replace("-", "_")
    stages = (*STAGES, COMPARISON, AUDITS, LEADERBOARD)
    if stage is not None and stage not in stages:
        known = [*(plural for plural, name in PLURALS.items() if name in groups), *KINDS, "keys", *stages]
        near = get_close_matches(what or "", known, n=2)
        raise UserError(
            f"ls cannot list {what}",
            f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(known)}",
        )
    artefacts = Store(outputs).overview(stage)
    if json:
        emit_json(
            [{**as_data(a), "finished": a.listed.get("finished"), "slug": a.path.parent.name} for a in artefacts]
        )
    elif artefacts:
        show(console, artefact_table(artefacts))
    else:
        context.obj.reporter.note(f"nothing has been made yet in {outputs}; try: unierase run experiment=demo")


def show(context: typer.Context, run: Run, outputs: Folder = "outputs", json: options.Json = False) -> None:
    from unierase_cli.cli.outcome import outcome, show_manifest, show_outcome
    from unierase_cli.store.artefacts import Store

    context.obj.outputs = outputs
    store = Store(outputs)
    artefact = store.resolve(run)
    if json:
        emit_json({**outcome(artefact, store), "manifest": artefact.manifest})
        return
    show_manifest(context.obj.reporter.console, artefact)
    show_outcome(context.obj.reporter.console, artefact, store, everything=True)


def export(
    context: typer.Context,
    run: Run,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder to write to.")],
    kind: Annotated[
        str,
        typer.Option("--as", metavar="KIND", help="model (Hugging Face) | gguf (llama.cpp) | patch (the changes) | lora (peft) | "
        "erasure (one page for whoever asked for it)."),
    ] = "model",
    rank: Annotated[
        int | None, typer.Option("--rank", metavar="R", help="--as lora: truncate the change to rank R.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Also write a model card: counts, hashes, numbers and the audit's verdict, no texts.")
    ] = False,
    push: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Send the export and its card to the Hugging Face hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="--push: make a new repository public (default: private).")] = False,
    step: options.Step = None,
    base: options.Base = None,
    outputs: Folder = "outputs",
    device: options.OnDevice = "auto",
    json: options.Json = False,
) -> None:
    from unierase_cli.delivery.export import export
    from unierase_cli.store.artefacts import Store

    context.obj.outputs = outputs
    result = export(
        Store(outputs).resolve(run),
        directory,
        context.obj.reporter,
        outputs,
        kind=kind,
        rank=rank,
        until=step,
        base=base,
        device=device,
        card=card,
        push=push,
        public=public,
    )
    if json:
        emit_json(result)


@with_shared_options("dry_run", "force", "no_chain")
def doctor(
    context: typer.Context,
    chosen: Chosen,
    words: options.Words = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every version, device and estimate.")] = False,
) -> None:
    wishes = chosen.wishes(words or [])
    if wishes.print_config:
        print_config(wishes)
        return
    from unierase_cli.estimate.doctor import examine

    found = examine(compose_for(context.obj, wishes))
    if wishes.json:
        emit_json(found)
    else:
        from unierase_cli.cli.findings import full_tables, summary_table
        from unierase_cli.cli.tables import show

        for table in full_tables(found) if everything else [summary_table(found)]:
            show(context.obj.reporter.console, table)
        for remark in found["remarks"]:
            context.obj.reporter.note(f"note: {remark}")
        for problem in found["problems"]:
            context.obj.reporter.note(f"problem: {problem}")
        if not found["problems"]:
            context.obj.reporter.note("no problems found" + ("" if everything else " (--all shows every estimate)"))
    if found["problems"]:
        raise typer.Exit(1)
