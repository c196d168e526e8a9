"""Second program of a sandboxed process: either the generated code, or the tests that ask it. Standard library only.

``solution`` defines the code and answers calls; ``tests`` runs a problem's ``check`` against a stand-in that passes each call on.
The two share nothing but a pair of pipes, over which only plain values travel (as JSON, read back into exact built-in types). So
the code can neither see the tests nor the word that the tests say when all have passed, and an answer cannot pretend to equal
everything.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

MOST_BYTES = 4 << 20
WRITTEN_FILES = 16
SHOWN = 200
# Audit events (PEP 578) after which the process ends at once: other processes, sockets, other files, native memory, the
# interpreter's own bookkeeping. Opening and listing are looked at one by one.
FORBIDDEN = (
    "socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.startfile",
    "os.chdir", "os.fchdir", "os.chmod", "os.chown", "os.chflags", "os.lchmod", "os.link", "os.symlink", "os.rename",
    "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "os.lockf", "os.setxattr", "os.removexattr",
    "os.getxattr", "os.listxattr", "shutil.", "tempfile.", "glob.", "pathlib.", "sqlite3.", "ctypes.", "mmap.", "fcntl.",
    "resource.", "signal.pthread_kill", "pty.", "syslog.", "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.",
    "imaplib.", "nntplib.", "poplib.", "telnetlib.", "gc.get_", "sys.settrace", "sys.setprofile", "sys.addaudithook",
    "sys._current_frames", "sys._current_exceptions", "sys.remote_exec", "sys.monitoring", "code.__new__", "cpython.",
    "function.__new__", "ensurepip.",
)  # fmt: skip
# Extension modules that reach memory, processes or files without an audit event.
NEVER_IMPORTED = frozenset(
    {
        "ctypes", "_ctypes", "_posixsubprocess", "_posixshmem", "_multiprocessing", "_socket", "_ssl", "_sqlite3", "_dbm",
        "_gdbm", "readline", "_curses", "_crypt", "fcntl", "mmap", "termios", "pty", "_xxsubinterpreters", "_interpreters",
        "_testcapi", "_testinternalcapi", "_testbuffer", "_ctypes_test", "nis", "spwd", "ossaudiodev", "syslog",
    }
)  # fmt: skip


def main() -> None:
    role, incoming, outgoing, protections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    # The arguments hold nothing secret, yet nothing of them is the code's business.
    sys.argv[1:] = []
    (run_tests if role == "tests" else run_solution)(incoming, outgoing, protections)


def run_solution(incoming: int, outgoing: int, protections: str) -> None:
    """Define the code in a module of its own, then answer calls until the other side closes the pipe."""
    sys.addaudithook(guard(os.getcwd(), outgoing))
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
            reply = {"error": type(error).__name__, "text": _short(error)}
        send(outgoing, reply)


def run_tests(incoming: int, outgoing: int, protections: str) -> None:
    """Say "ready", run the problem's tests, then say the secret word, or why not; both on the standard output."""
    problem = json.loads(sys.stdin.buffer.read())
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    sys.addaudithook(guard(os.getcwd(), -1))
    if receive(incoming) != {"ready": True}:
        return
    _say(report, {"ready": protections})
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
        _say(report, {"word": problem["word"]})
    except BaseException as error:
        _say(report, {"reason": f"{type(error).__name__}: {_short(error)}"})


def _ask(incoming: int, outgoing: int, order: Mapping[str, Any]) -> Any:
    """Send an order to the solution; its answer, or the exception that it ended in."""
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
        except TypeError:  # some exceptions want more than a text
            raised = RuntimeError(str(reply["error"]))
        raise raised
    raise RuntimeError(f"{reply['error']} {reply.get('text', '')}")


def _compiled(prompt: str) -> Any:
    """The problem's text as a program; a function that ends at its header gets a body."""
    try:
        return compile(prompt, "<prompt>", "exec", dont_inherit=True)
    except SyntaxError:
        return compile(prompt.rstrip() + "\n    pass\n", "<prompt>", "exec", dont_inherit=True)


def guard(folder: str, outgoing: int) -> Callable[[str, tuple], None]:
    """An audit hook that ends the process at the first thing that is not for generated code; it can't be removed.

    Files may be read in ``folder`` and in Python's own library, and written in ``folder``, a few times. ``outgoing``: where the
    event is told (-1: nowhere).
    """
    library = tuple(p.rstrip("/") + "/" for p in sys.path if p.startswith("/"))
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    # All that the hook uses are its own arguments: built-in names may have been replaced by the code, and a finaliser that runs
    # while the hook does can see its frame, where a closure would be something to change for good.
    def hook(
        event: str,
        args: tuple,
        own: str = folder.rstrip("/") + "/",
        library: tuple = library,
        writes: int = writes,
        left: list = [WRITTEN_FILES],  # noqa: B006  # counts down over the calls
        kind: Any = type,
        texts: tuple = (str, bytes),
        never: frozenset = NEVER_IMPORTED,
        fatal: tuple = FORBIDDEN,
        leave: Any = os._exit,
        write: Any = os.write,
        to_bytes: Any = int.to_bytes,
        outgoing: int = outgoing,
        error: Any = BaseException,
    ) -> None:
        try:
            fine = True
            if event in ("open", "os.listdir", "os.scandir"):
                path, flags = args[0], args[2] if event == "open" else 0
                if kind(path) is texts[1]:
                    path = path.decode("utf-8", "replace")
                if path is None and event != "open":
                    path = "."
                if kind(path) is not texts[0] or ".." in path.split("/"):
                    fine = False
                else:
                    whole = (path if path.startswith("/") else own + path) + "/"
                    left[0] -= 1 if flags & writes else 0
                    inside = whole.startswith(own) and left[0] >= 0
                    fine = inside or (not flags & writes and whole.startswith(library))
            elif event == "import":
                fine = args[0] not in never and args[0].partition(".")[0] not in never
            elif event.startswith(fatal):
                fine = False
            if not fine:
                body = b'{"error": "forbidden:", "text": "' + event[:60].encode("ascii", "replace") + b'"}'
                if outgoing >= 0:
                    write(outgoing, to_bytes(body.__len__(), 4, "big") + body)
                leave(1)
        except error:
            leave(1)

    return hook


def pack(value: Any) -> list:
    """A plain value as JSON-able data that says its type. Subclasses become what they extend; raises TypeError for the rest."""
    if value is None or isinstance(value, bool | str):
        return ["v", value]
    if isinstance(value, int):
        return ["i", hex(value)]
    if isinstance(value, float):
        return ["f", float.hex(value)]
    if isinstance(value, complex):
        return ["c", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, bytes | bytearray):
        return ["b", value.hex()]
    if isinstance(value, dict):
        return ["d", [[pack(key), pack(item)] for key, item in value.items()]]
    for name, form in COLLECTIONS.items():
        if isinstance(value, form):
            return [name, [pack(item) for item in value]]
    raise TypeError(f"a {type(value).__name__} cannot be passed between the tests and the code")


def unpack(data: list) -> Any:
    """The value again, in exact built-in types."""
    kind, content = data[0], data[1]
    if kind == "i":
        return int(content, 16)
    if kind == "f":
        return float.fromhex(content)
    if kind == "c":
        return complex(float.fromhex(content), float.fromhex(data[2]))
    if kind == "b":
        return bytes.fromhex(content)
    if kind == "d":
        return {unpack(key): unpack(item) for key, item in content}
    return content if kind == "v" else COLLECTIONS[kind](unpack(item) for item in content)


COLLECTIONS: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}


def send(channel: int, message: Mapping[str, Any]) -> None:
    """One message: its length in four bytes, then JSON."""
    body = json.dumps(message).encode("ascii")
    if len(body) > MOST_BYTES:
        raise ValueError("the answer is too large")
    left = len(body).to_bytes(4, "big") + body
    while left:
        left = left[os.write(channel, left) :]


def receive(channel: int) -> Any:
    """The next message, or None when the other side is gone."""
    head = _exactly(channel, 4)
    size = int.from_bytes(head, "big") if head else 0
    if size > MOST_BYTES:
        raise ValueError("the answer is too large")
    body = _exactly(channel, size) if size else None
    return None if body is None else json.loads(body)


def _exactly(channel: int, size: int) -> bytes | None:
    parts = b""
    while len(parts) < size:
        part = os.read(channel, min(size - len(parts), 1 << 16))
        if not part:
            return None
        parts += part
    return parts


def _say(channel: int, message: Mapping[str, Any]) -> None:
    os.write(channel, (json.dumps(message) + "\n").encode("ascii"))


def _short(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:SHOWN]
    except BaseException:  # a class of the code's own may fail at that, too
        return ""


if __name__ == "__main__":
    main()
