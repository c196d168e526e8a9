"""The command new: the files of a new model, method, loss, metric, attack or benchmark, with one place left to fill in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from unierase_cli.cli import options
from unierase_cli.cli.commands.new_parts import KINDS, Planned, plan, write
from unierase_cli.cli.render import emit_json

What = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="model, method, loss, metric, attack or benchmark.",
        autocompletion=lambda incomplete: [kind for kind in KINDS if kind.startswith(incomplete)],
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and underscores.")]
Into = Annotated[
    Path | None,
    typer.Option("--into", metavar="FOLDER", help="A package of your own; without it the checkout that you are in."),
]


def new(context: typer.Context, what: What, name: Name, into: Into = None, json: options.Json = False) -> None:
    planned = plan(what, name, Path.cwd(), into)
    write(planned)
    files, commands = [_shown(path) for path in planned.files], _commands(planned)
    if json:
        emit_json({"kind": what, "name": name, "files": files, "add": planned.added, "next": commands})
        return
    note = context.obj.reporter.note
    for place, path in enumerate(files):
        note(f"wrote {path}" + (f"   <- fill in {planned.kind.open}" if place == 0 else ""))
    for changed in planned.changed:
        note(f"added its entry point to {_shown(changed)}")
    if planned.added:
        note(f"add to {_shown(planned.root / 'pyproject.toml')}:\n{planned.added}")
    if planned.kind.name == "metric":
        note("until it is filled in, scoring stops and says so: every metric is computed on every run")
    for command in commands:
        note(f"next: {command}")


def _commands(planned: Planned) -> list[str]:
    """What to type: install a package of one's own, see the test fail, and use the new part."""
    kind, found = planned.kind, []
    (test,) = (path for path in planned.files if path.name.startswith("test_"))
    if not _is_installed(planned):
        found.append(f"pip install -e {_shown(planned.root)}")
    found.append(f"python -m pytest {_shown(test)}")
    conf = "" if planned.checkout or not kind.group else f" --config-dir {_shown(planned.root / 'conf')}"
    return [*found, kind.try_it.format(planned.name) + conf]


def _is_installed(planned: Planned) -> bool:
    """Whether the new part can be found as things are: a yaml alone always, in a checkout if it is the one that runs."""
    return not planned.kind.room or (planned.checkout and Path(__file__).resolve().is_relative_to(planned.root))


def _shown(path: Path) -> str:
    """The path as it can be typed from here."""
    shorter = os.path.relpath(path)
    return str(path) if shorter.startswith("..") else shorter
