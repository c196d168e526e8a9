"""Shell completion of option values and KEY=VALUE words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from unierase_cli.config import catalog
from unierase_cli.config.locate import config_folders
from unierase_cli.contracts import UserError


def complete_choice(group: str) -> Callable[[str], list[str]]:
    """Completion of an option whose values are the choices of ``group``."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in _groups().get(group, []) if name.startswith(incomplete)]

    return complete


def complete_word(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completion of ``group=choice`` and of dotted keys.

    bash splits words at ``=``: ``model=mi`` arrives as ``model``, ``=``, ``mi`` (and ``model=`` as ``model`` and nothing), and the
    answer must be only the part after ``=``.
    """
    groups, args = _groups(), [str(word) for word in ctx.params.get("words") or ()]
    if not incomplete and args and args[-1] in groups:
        return groups[args[-1]]
    if len(args) > 1 and args[-1] == "=":
        return [name for name in groups.get(args[-2], []) if name.startswith(incomplete)]
    group, equals, start = incomplete.partition("=")
    if equals:
        return [f"{group}={name}" for name in groups.get(group, []) if name.startswith(start)]
    return [f"{name}=" for name in [*groups, *_keys(incomplete)] if name.startswith(incomplete)]


def complete_sweep(ctx: typer.Context, incomplete: str) -> list[str]:
    """As ``complete_word``, but a comma starts the next value: ``method=unierase,np`` (in bash ``unierase,np`` after ``=``)."""
    before, comma, start = incomplete.rpartition(",")
    if not comma:
        return [*complete_word(ctx, incomplete), *(["seed="] if incomplete and "seed=".startswith(incomplete) else [])]
    args = [str(word) for word in ctx.params.get("words") or ()]
    group, _, said = before.rpartition("=")
    group = group or (args[-2] if len(args) > 1 and args[-1] == "=" else "")
    names = [name for name in _groups().get(group, []) if name not in said.split(",")]
    return [f"{before},{name}" for name in names if name.startswith(start)]


def complete_run(incomplete: str) -> list[str]:
    """Completion of RUN with the artefacts in ./outputs."""
    from unierase_cli.cli.tables import run_names
    from unierase_cli.store.artefacts import Store

    return [name for name in ["latest", *run_names(Store("outputs").list())] if name.startswith(incomplete)]


def complete_run_or_word(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completion of RUN and of KEY=VALUE."""
    return [*complete_run(incomplete), *complete_word(ctx, incomplete)]


def _groups() -> dict[str, list[str]]:
    try:
        return catalog.groups(config_folders())
    except UserError:
        return {}


def _keys(incomplete: str) -> Sequence[str]:
    """Dotted keys to offer: a few common ones at first, all of them once a letter is typed."""
    if not incomplete:
        return ["run.seed", "run.outputs", "run.device"]
    from unierase_cli.config.overrides import known_keys

    return [key for key in known_keys() if not key.endswith((".name", ".note", ".verified", ".verified_by"))]
