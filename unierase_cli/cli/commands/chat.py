"""The chat command: answers questions from the terminal or a pipe with the model before and after its edit."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unierase_cli.cli import options
from unierase_cli.cli.options import Folder, Run
from unierase_cli.contracts import UserError

if TYPE_CHECKING:
    from unierase_cli.cli.render import ConsoleReporter
    from unierase_cli.delivery.chat import Said, TwoStates

COMMANDS = {
    "/before": "ask the unedited model only",
    "/after": "ask the edited model only",
    "/both": "ask both (the default)",
    "/forbid": "forbid the unlearning token [UNL] to the edited model, or allow it again",
    "/quit": "end",
}
TITLES = {"before": "before", "after": "after the edit"}


def chat(
    context: typer.Context,
    run: Run,
    step: options.Step = None,
    base: options.Base = None,
    outputs: Folder = "outputs",
    device: options.OnDevice = "auto",
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per question on stdout.")] = False,
) -> None:
    from unierase_cli.delivery.chat import open_run
    from unierase_cli.store.artefacts import Store

    context.obj.outputs = outputs
    store = Store(outputs)
    reporter = context.obj.reporter
    states = open_run(store.resolve(run), store, reporter, until=step, base=base, device=device)
    reporter.note(f"questions are independent: the model does not see earlier ones; {', '.join(COMMANDS)}")
    Session(states, reporter, json).run(_lines())


@dataclass
class Session:
    """One conversation: which states are asked, and whether [UNL] is forbidden."""

    states: TwoStates
    reporter: ConsoleReporter
    json: bool
    asked: tuple[str, ...] = ("before", "after")
    forbid: bool = False

    def run(self, lines: Iterator[str]) -> None:
        """Run until ``/quit`` or the end of the input; an invalid question does not end the conversation."""
        for line in lines:
            text = line.strip()
            if text == "/quit":
                return
            if text.startswith("/"):
                self.command(text.split()[0])
            elif text:
                self.question(text)

    def command(self, word: str) -> None:
        if word in ("/before", "/after", "/both"):
            self.asked = ("before", "after") if word == "/both" else (word[1:],)
            self.reporter.note(f"asking: {' and '.join(self.asked)}")
        elif word == "/forbid" and not self.states.has_token:
            self.reporter.note("this run has no unlearning token to forbid")
        elif word == "/forbid":
            self.forbid = not self.forbid
            self.reporter.note(f"the unlearning token is {'forbidden' if self.forbid else 'allowed'} after the edit")
        else:
            self.reporter.note("; ".join(f"{name}: {about}" for name, about in COMMANDS.items()))

    def question(self, text: str) -> None:
        try:
            answers = self.states.ask(text, self.asked, forbid=self.forbid)
        except UserError as error:
            self.reporter.note(f"error: {error.message}")
            if self.json:
                _emit({"question": text, "error": error.message})
            return
        if self.json:
            said = {state: answer.to_json() for state, answer in answers.items()}
            _emit({"question": text, "forbid": self.forbid, **said})
        else:
            self.show(text, answers)

    def show(self, question: str, answers: dict[str, Said]) -> None:
        """The answers side by side."""
        from unierase_cli.cli.tables import show
        from unierase_cli.results.table import Table

        heads = tuple(
            TITLES[state] + (" ([UNL] forbidden)" if self.forbid and state == "after" else "") for state in answers
        )
        show(self.reporter.console, Table(question, heads, (tuple(_cell(answer) for answer in answers.values()),)))


def _cell(answer: Said) -> str:
    text = answer.raw_text or "(nothing)"
    return text if answer.stop in ("end", "text") else f"{text} ..."


def _lines() -> Iterator[str]:
    """Lines of a pipe, or of a prompt in a terminal, with history where readline is available."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(ImportError):
        import readline  # noqa: F401  (importing it gives input() its history)
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def _emit(value: dict[str, Any]) -> None:
    print(json_text.dumps(value, ensure_ascii=False), flush=True)
