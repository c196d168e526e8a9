"""The `unierase` command: sub-commands, help and error messages.

Help must be instant, so this file imports nothing heavy and builds a sub-command only when it is called.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unierase_cli import __version__
from unierase_cli.contracts import UserError

ABOUT = """Make language models forget, and measure what they forget and what they keep.

\b
  unierase run experiment=demo                      a few minutes on a laptop
  unierase eval --model tofu_mini model.path=DIR    run any stage; missing inputs are made first
  unierase ls models                                list the available choices
"""
# Command -> (module in this folder, one line of help). The module has a function of the command's name, a
# ``callback(name)`` that returns it, or SUBCOMMANDS.
COMMANDS = {
    "run": ("commands.stage", "Run everything, from the model to the report."),
    "prepare": ("commands.stage", "Find out what a model knows and split it into facts to forget and to keep."),
    "prepare-return": ("commands.stage", "Short for prepare benchmark=return: RETURN's splits for a model."),
    "finetune": ("commands.stage", "Train the target model on the benchmark."),
    "train-token": ("commands.stage", "Train the unlearning token's rows."),
    "moments": ("commands.stage", "Measure what an edit must leave unchanged."),
    "trace": ("commands.stage", "Measure which blocks and tokens carry the facts, to choose edit.layers."),
    "attribute": ("commands.stage", "Measure which answer tokens carry the facts, to weigh them in unlearning."),
    "reveal": ("commands.stage", "Make a forget set of what the model itself tells about names or topics."),
    "coverage": ("commands.stage", "Compare what a model revealed with the true forget set."),
    "edit": ("commands.stage", "Erase with a closed-form editing method."),
    "erase": ("commands.stage", "Erase with any method."),
    "eval": ("commands.stage", "Ask the model before and after the edit and show the scores."),
    "sweep": ("sweep.command", "Run every combination of KEY=V1,V2 words and show one table."),
    "score": ("commands.score", "Score recorded answers, RUNs or other tools' logs again."),
    "audit": ("commands.audit", "Attack an unlearned model: is it gone, or only hidden?"),
    "report": ("commands.report", "Write a run's report, or one table over many RUNs."),
    "leaderboard": ("commands.leaderboard", "Rank finished RUNs, and say which differences are real."),
    "compare": ("commands.compare", "Compare two finished RUNs question by question."),
    "rerun": ("commands.rerun", "Make a finished RUN again from its manifest and compare the results."),
    "check": ("commands.check", "Compare an experiment's RUN with the numbers recorded for it."),
    "export": ("commands.look", "Write the edited model, its patch alone, or a LoRA adapter."),
    "patch": ("commands.patch", "Apply a run's changes to a model folder, revert them, compare them."),
    "chat": ("commands.chat", "Ask the model before and after its edit, side by side."),
    "ls": ("commands.look", "List artefacts, or available choices (ls models)."),
    "show": ("commands.look", "Show how an artefact was made, and its results."),
    "new": ("commands.new", "Create a model, method, loss, metric, attack or benchmark of your own."),
    "doctor": ("commands.look", "Check files, devices, memory and disk without loading anything."),
}
SETTINGS = {"help_option_names": ["-h", "--help"]}


class Commands(TyperGroup):
    """The command group: lists configuration choices in its help and turns every failure into one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module, about = COMMANDS[cmd_name]
            found = importlib.import_module(f"unierase_cli.cli.{module}")
            plain: dict[str, Any] = {
                "add_completion": False,
                "rich_markup_mode": None,
                "pretty_exceptions_enable": False,
            }
            built = typer.Typer(help=about, context_settings=SETTINGS, **plain)
            # A module has one function per command, or a table of functions for a command of several words.
            several = getattr(found, "SUBCOMMANDS", None)
            single = found.callback(cmd_name) if hasattr(found, "callback") else getattr(found, cmd_name, None)
            for word, (function, line) in (several or {cmd_name: (single, about)}).items():
                built.command(word, help=line, context_settings=SETTINGS)(function)
            self.commands[cmd_name] = typer.main.get_command(built)
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from unierase_cli.config.catalog import groups
        from unierase_cli.config.locate import config_folders

        with formatter.section("Configuration (GROUP=NAME after a command; any key as KEY=VALUE)"):
            formatter.write_dl([(group, ", ".join(names)) for group, names in groups(config_folders()).items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name.startswith("-") or name in COMMANDS:
            return super().resolve_command(ctx, args)
        near = get_close_matches(name, list(COMMANDS), n=1)
        if "=" in name:
            raise UserError(f"{name} is not a command", f"unierase run {' '.join(args)}")
        hint = f"unierase {near[0]}" if near else f"choose one of: {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {name}", hint)

    def invoke(self, ctx: Any) -> Any:
        from unierase_cli.cli.failures import INTERRUPTED, out_of_memory, record, tell
        from unierase_cli.cli.session import Journal
        from unierase_cli.cli.streams import check_place
        from unierase_cli.store.environment import check_processes
        from unierase_cli.store.refusals import as_user_error

        journal = ctx.obj = Journal()
        try:
            check_place()
            check_processes()
            return super().invoke(ctx)
        except UserError as error:
            raise typer.Exit(tell(error.message, error.hint)) from error
        except KeyboardInterrupt as error:
            print(f"interrupted; {error}" if error.args else INTERRUPTED, file=sys.stderr)
            raise typer.Exit(130) from error
        except BrokenPipeError:
            raise
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
                raise
            if (memory := out_of_memory(error)) is not None:
                raise typer.Exit(tell(*memory)) from error
            if (refused := as_user_error(error)) is not None:
                raise typer.Exit(tell(refused.message, refused.hint)) from error
            raise typer.Exit(record(error, journal)) from error

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """As in click, but a usage error is one line with a hint, and no arguments means ``--help``."""
        from unierase_cli.cli.failures import tell
        from unierase_cli.store.refusals import as_user_error

        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        standalone = extra.pop("standalone_mode", True)
        try:
            code = super().main(words, standalone_mode=False, **extra)
        except UserError as error:
            code = tell(error.message, error.hint)
        except Exception as error:
            if hasattr(error, "format_message"):
                code = _tell_usage(error)
            elif (refused := as_user_error(error)) is not None:
                code = tell(refused.message, refused.hint)
            else:
                raise
        code = code if isinstance(code, int) else 0
        if standalone:
            from unierase_cli.cli.streams import finish

            sys.exit(finish(code))
        return code


app = typer.Typer(
    cls=Commands,
    help=ABOUT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unierase {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `unierase` script."""
    from unierase_cli.cli.streams import settle_streams

    settle_streams()
    # OpenMP threads spin while they wait for each other. On a machine with busy cores each wait costs a time slice,
    # several times the work itself; passive waiting costs almost nothing on an idle machine. torch reads this when it
    # is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # oneDNN caches up to 1024 kernels with their buffers, one per shape of a bfloat16 product: hundreds of MiB on a CPU
    # by the end of a training, in which shapes hardly ever repeat.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    app(prog_name="unierase")


def _tell_usage(error: Any) -> int:
    """Print click's usage errors (unknown option, missing argument) as message and hint."""
    from unierase_cli.cli.failures import tell

    message = error.format_message()
    context = getattr(error, "ctx", None)
    hint = f"{getattr(context, 'command_path', None) or 'unierase'} --help"
    if possible := getattr(error, "possibilities", None):
        message = str(error.message)
        hint = " or ".join(_near_options(error.option_name, possible)) or hint
    return tell(message[:1].lower() + message[1:].rstrip("."), hint)


def _near_options(typed: str, known: Sequence[str]) -> list[str]:
    """Known options that are similar to what was typed or start with it; at most two."""
    near = get_close_matches(typed, known, n=2, cutoff=0.75)
    begun = [option for option in known if len(typed) > len("--") + 2 and option.startswith(typed)]
    return list(dict.fromkeys([*begun, *near]))[:2]
