"""Second program of a sandboxed process: either the generated code, or the tests that call it; standard library only.

``solution`` defines the code and answers calls; ``tests`` runs a problem's ``check`` against a proxy that forwards each
call. The two share only a pair of pipes, over which plain values travel (``values``). So the code can see neither the
tests nor the word that the tests report when all have passed.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from unierase_cli.inference.sandbox.guard import short, shut
from unierase_cli.inference.sandbox.values import pack, receive, say, send, unpack


def main() -> None:
    role, incoming, outgoing, report, protections = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    # The arguments contain no secrets, but the code does not need them.
    sys.argv[1:] = []
    if role == "tests":
        run_tests(incoming, outgoing, report, protections)
    else:
        run_solution(incoming, outgoing)


def run_solution(incoming: int, outgoing: int) -> None:
    """Define the code in a separate module, then answer calls until the other side closes the pipe."""
    shut(outgoing)
    send(outgoing, {"ready": True})
    module = ModuleType("solution")
    sys.modules["solution"] = module
    entry: Any = None
    while (order := receive(incoming)) is not None:
        try:
            if "code" in order:
                exec(compile(order["code"], "<solution>", "exec", dont_inherit=True), module.__dict__)
                entry = module.__dict__[order["entry"]]
                answer = None
            else:
                positional, named = unpack(order["call"])
                answer = entry(*positional, **named)
            reply: dict[str, Any] = {"value": pack(answer)}
        except BaseException as error:
            reply = {"error": type(error).__name__, "text": short(error)}
        send(outgoing, reply)


def run_tests(incoming: int, outgoing: int, report: int, protections: str) -> None:
    """Report "ready", run the problem's tests, then report the secret word or the reason of failure."""
    problem = json.loads(sys.stdin.buffer.read())
    # Standard output is already closed to the outside; now standard input is too.
    os.dup2(1, 0)
    shut(-1)
    if receive(incoming) != {"ready": True}:
        return
    say(report, {"ready": f"no file opened after the start, {protections}"})
    try:
        _ask(incoming, outgoing, {"code": problem["code"], "entry": problem["entry"]})
        # The problem's text defines helpers that its tests may call, and the function itself without a body.
        names: dict[str, Any] = {"__name__": "tests"}
        exec(_compiled(problem["prompt"]), names)

        def candidate(*positional: Any, **named: Any) -> Any:
            return _ask(incoming, outgoing, {"call": pack(((*positional,), named))})

        names[problem["entry"]] = candidate
        exec(compile(problem["tests"], "<tests>", "exec", dont_inherit=True), names)
        names["check"](candidate)
        say(report, {"word": problem["word"]})
    except BaseException as error:
        say(report, {"reason": f"{type(error).__name__}: {short(error)}"})


def _ask(incoming: int, outgoing: int, order: Mapping[str, Any]) -> Any:
    """Send an order to the solution; returns its answer or raises the exception it ended in."""
    try:
        send(outgoing, order)
    except BrokenPipeError:
        raise EOFError("the code ended its own process") from None
    reply = receive(incoming)
    if reply is None:
        raise EOFError("the code ended its own process")
    if "error" not in reply:
        return unpack(reply["value"])
    kind = getattr(builtins, str(reply["error"]), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            raised = kind(str(reply.get("text", "")))
        except TypeError:  # some exceptions need more than a text
            raised = RuntimeError(str(reply["error"]))
        raise raised
    raise RuntimeError(f"{reply['error']} {reply.get('text', '')}")


def _compiled(prompt: str) -> Any:
    """The problem's text as a program; a function without a body gets one."""
    try:
        return compile(prompt, "<prompt>", "exec", dont_inherit=True)
    except SyntaxError:
        return compile(prompt.rstrip() + "\n    pass\n", "<prompt>", "exec", dont_inherit=True)
