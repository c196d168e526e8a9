"""Restricts a sandboxed Python before generated code runs in it; standard library only.

Modules that code may need are imported first. Then no more files can be opened (enforced by the kernel), no modules can
be loaded, functions that reach the system are replaced by one that raises, and an audit hook (PEP 578) ends the process
at forbidden events. Only the file limit holds against code that corrupts the interpreter's memory; see ``sandbox``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Everything that can be imported: what HumanEval's problems and solutions import (typing, math, random, copy, string,
# collections, re, hashlib), what similar programs import, and what Python itself imports on first use.
PRELOADED = (
    "__future__", "abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections.abc",
    "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools",
    "hashlib", "heapq", "inspect", "io", "itertools", "json", "linecache", "locale", "math", "numbers", "operator",
    "os.path", "pprint", "random", "re", "secrets", "statistics", "string", "struct", "sys", "textwrap", "time",
    "traceback", "types", "typing", "unicodedata", "warnings", "zlib",
    "_strptime", "stringprep", "encodings.ascii", "encodings.hex_codec", "encodings.idna", "encodings.latin_1",
    "encodings.punycode", "encodings.raw_unicode_escape", "encodings.rot_13", "encodings.unicode_escape",
    "encodings.utf_16", "encodings.utf_32", "encodings.utf_8_sig",
)  # fmt: skip
# The functions to keep in modules that reach the system.
STAY: dict[str, frozenset[str]] = {
    "posix": frozenset({"_exit", "cpu_count", "fspath", "getpid", "strerror", "urandom"}),
    "_imp": frozenset({"acquire_lock", "extension_suffixes", "is_builtin", "is_frozen", "lock_held", "release_lock"}),
    "_signal": frozenset({"default_int_handler", "getsignal"}),
    "marshal": frozenset({"dumps"}),
}
# The module that keeps its ``read`` and ``write``.
MESSAGES = "unierase_cli.inference.sandbox.values"
# Audit events that end the process at once: files, other processes, sockets, native memory, interpreter internals.
# Matched as prefixes.
FORBIDDEN = (
    "open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.", "glob.", "pathlib.", "sqlite3.", "ctypes.", "mmap.", "fcntl.",
    "resource.", "signal.", "pty.", "syslog.", "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.", "imaplib.", "nntplib.",
    "poplib.", "telnetlib.", "gc.get_", "sys.settrace", "sys.setprofile", "sys.addaudithook", "sys._current_frames",
    "sys._current_exceptions", "sys.remote_exec", "sys.monitoring", "code.__new__", "cpython.", "function.__new__", "ensurepip.",
    "marshal.load", "_thread.start", "_posixsubprocess.",
)  # fmt: skip
# Modules that reach memory, processes or files without an audit event; forbidden also as part of a dotted name.
NEVER_IMPORTED = frozenset(
    {
        "ctypes", "_ctypes", "_posixsubprocess", "_posixshmem", "_multiprocessing", "_socket", "_ssl", "_sqlite3", "_dbm",
        "_gdbm", "readline", "_curses", "_crypt", "fcntl", "mmap", "termios", "pty", "_xxsubinterpreters", "_interpreters",
        "_testcapi", "_testinternalcapi", "_testbuffer", "_ctypes_test", "nis", "spwd", "ossaudiodev", "syslog", "resource",
        "faulthandler", "select", "_asyncio", "_pickle", "posix", "_imp",
    }
)  # fmt: skip


def shut(outgoing: int) -> None:
    """Apply every restriction, in order; ``outgoing`` is the channel on which the hook reports what ended the process
    (-1: none).
    """
    preload()
    open_no_more_files()
    load_no_more_modules()
    # Created before what it uses is taken away, installed after.
    hook = guard(outgoing)
    take_away(refused)
    sys.addaudithook(hook)


def preload() -> None:
    """Import what code may import. Raises RuntimeError if that loads a forbidden module."""
    for name in PRELOADED:
        importlib.import_module(name)
    found = sorted((NEVER_IMPORTED - STAY.keys()) & set(sys.modules))
    if found:
        raise RuntimeError(f"{found[0]} is loaded")


def open_no_more_files() -> None:
    """Forbid new descriptors for files, pipes and sockets, permanently and in the kernel."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    del sys.modules["resource"]


def load_no_more_modules() -> None:
    """Make every module that is not loaded unfindable."""
    for place in (sys.meta_path, sys.path_hooks, sys.path):
        place.clear()
    sys.path_importer_cache.clear()


def take_away(instead: Callable[..., Any]) -> None:
    """Replace the functions of STAY's modules by ``instead``, wherever a module or a set refers to them."""
    sources = {id(sys.modules[name]): stay for name, stay in STAY.items() if name in sys.modules}
    kind: Any = type(len)
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            stay = sources.get(id(value.__self__)) if isinstance(value, kind) else None
            # The messages module keeps reading and writing.
            if stay is not None and value.__name__ not in stay and module.__name__ != MESSAGES:
                setattr(module, name, instead)
            elif name.startswith("supports_") and isinstance(value, set):
                value.clear()


def refused(*words: Any, **named: Any) -> Any:
    """Replaces whatever reaches the system."""
    raise PermissionError("generated code may not do this")


def guard(outgoing: int) -> Callable[[str, tuple], None]:
    """An audit hook that ends the process at the first forbidden event; it cannot be removed."""

    # The hook uses only its own arguments: the code may have replaced built-in names, and a finaliser that runs during
    # the hook can see its frame, where a closure could be changed permanently.
    def hook(
        event: str,
        args: tuple,
        kind: Any = type,
        text: Any = str,
        never: frozenset = NEVER_IMPORTED,
        fatal: tuple = FORBIDDEN,
        leave: Any = os._exit,
        write: Any = os.write,
        to_bytes: Any = int.to_bytes,
        outgoing: int = outgoing,
        error: Any = BaseException,
    ) -> None:
        try:
            fine = not event.startswith(fatal)
            if event == "import":
                # A file would be native code. Any other module that is not loaded is not found, see above.
                fine = args[1] is None and kind(args[0]) is text and never.isdisjoint(args[0].split("."))
            if not fine:
                body = b'{"error": "forbidden:", "text": "' + event[:60].encode("ascii", "replace") + b'"}'
                if outgoing >= 0:
                    write(outgoing, to_bytes(body.__len__(), 4, "big") + body)
                leave(1)
        except error:
            leave(1)

    return hook


def short(error: BaseException, most: int = 200) -> str:
    """The exception's message on one line; empty if its class fails to produce one."""
    with suppress(BaseException):
        return " ".join(str(error).split())[:most]
    return ""
