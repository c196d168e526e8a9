"""Options shared by commands, and their translation into KEY=VALUE words, which can express everything that options can."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from unierase_cli.cli.complete import complete_choice, complete_run, complete_word

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Any key of the configuration, e.g. edit.values.clamp=0.5 benchmark.split=forget10. "
        "unierase ls keys explains each key.",
        autocompletion=complete_word,
        show_default=False,
    ),
]
ExperimentName = Annotated[
    str | None,
    typer.Option("--experiment", metavar="NAME", help="experiment=NAME", autocompletion=complete_choice("experiment")),
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="model=NAME", autocompletion=complete_choice("model"))
]
BenchmarkName = Annotated[
    str | None,
    typer.Option("--benchmark", metavar="NAME", help="benchmark=NAME", autocompletion=complete_choice("benchmark")),
]
MethodName = Annotated[
    str | None, typer.Option("--method", metavar="NAME", help="method=NAME", autocompletion=complete_choice("method"))
]
ModeName = Annotated[
    str | None, typer.Option("--mode", metavar="NAME", help="mode=NAME", autocompletion=complete_choice("mode"))
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="run.seed=N")]
Outputs = Annotated[str | None, typer.Option("--outputs", metavar="FOLDER", help="run.outputs=FOLDER")]
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="run.device=auto|cpu|cuda|cuda:1|mps")]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir", metavar="FOLDER", help="Folder of yamls that takes precedence over the shipped conf/ ($UNIERASE_CONF)."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be reused and made; make nothing.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the composed configuration and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Make a new version even if a finished one exists.")]
NoChain = Annotated[bool, typer.Option("--no-chain", help="Refuse instead of making what this command needs.")]
# For commands that take a finished RUN instead of a configuration.
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A path, NAME@v003, the start of a key, or latest.", autocompletion=complete_run
    ),
]
Folder = Annotated[str, typer.Option("--outputs", metavar="FOLDER", help="Folder of the artefacts.")]
Step = Annotated[
    int | None, typer.Option("--step", metavar="K", help="Use the steps up to and including K (default: all).")
]
Base = Annotated[
    str | None, typer.Option("--base", metavar="FOLDER", help="The unedited model, if it has moved since the run.")
]
OnDevice = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto|cpu|cuda|cuda:1|mps")]


@dataclass(frozen=True)
class Wishes:
    """What a command line asks for: configuration words, and what to do with the configuration."""

    words: list[str] = field(default_factory=list)
    config_dir: Path | None = None
    dry_run: bool = False
    print_config: bool = False
    json: bool = False


# Shared option -> its configuration key.
KEYS = {"experiment": "experiment", "model": "model", "benchmark": "benchmark", "method": "method", "mode": "mode"}
KEYS |= {"seed": "run.seed", "outputs": "run.outputs", "device": "run.device"}
# Options of every command that composes a configuration: (type, default).
SHARED: dict[str, tuple[Any, Any]] = {
    "experiment": (ExperimentName, None),
    "model": (ModelName, None),
    "benchmark": (BenchmarkName, None),
    "method": (MethodName, None),
    "mode": (ModeName, None),
    "seed": (Seed, None),
    "outputs": (Outputs, None),
    "device": (Device, None),
    "config_dir": (ConfigDir, None),
    "dry_run": (DryRun, False),
    "print_config": (PrintConfig, False),
    "json": (Json, False),
    "force": (Force, False),
    "no_chain": (NoChain, False),
}


@dataclass(frozen=True)
class Chosen:
    """Values of the shared options by name."""

    values: Mapping[str, Any]

    def wishes(self, words: Sequence[str], **others: Any) -> Wishes:
        """The wishes of the command line; ``others`` override shared options."""
        values = {**self.values, **others}
        plain = {name: values[name] for name in ("config_dir", "dry_run", "print_config", "json") if name in values}
        return Wishes(as_words(words, **{name: value for name, value in values.items() if name not in plain}), **plain)


def with_shared_options(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator that adds the shared options after a command's own parameters and passes their values as ``chosen``.

    ``without``: shared options that do not apply. A parameter of the function itself replaces the shared option of that
    name.
    """

    def shared_by(call: Callable[..., None]) -> Callable[..., None]:
        own = {name: p for name, p in inspect.signature(call, eval_str=True).parameters.items() if name != "chosen"}
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        shared = {
            name: inspect.Parameter(name, kind, default=default, annotation=type_)
            for name, (type_, default) in SHARED.items()
            if name not in own and name not in without
        }

        def command(**given: Any) -> None:
            call(chosen=Chosen({name: given.pop(name) for name in shared}), **given)

        # typer reads a command's options from its signature.
        parameters = [*own.values(), *shared.values()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__ = call.__name__
        return command

    return shared_by


def runs_and_words(typed: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Split the arguments of a command that takes both into RUNs and KEY=VALUE words."""
    runs = [word for word in typed or [] if "=" not in word and not word.startswith("~")]
    return runs, [word for word in typed or [] if word not in runs]


def as_words(words: Sequence[str] | None, *, force: bool = False, no_chain: bool = False, **named: Any) -> list[str]:
    """Options as words, placed before the typed words so that a typed value wins."""
    found = {KEYS[name]: value for name, value in named.items()}
    found |= {"run.force": "true" if force else None, "run.chain": "false" if no_chain else None}
    return [f"{key}={value}" for key, value in found.items() if value is not None] + list(words or [])
