"""Checks on what a process starts with: the three standard streams and the current folder."""

from __future__ import annotations

import os
import sys

from unierase_cli.contracts import UserError


def settle_streams() -> None:
    """Open closed standard streams (``>&-``) on the null device, and escape characters that a stream cannot encode.

    Otherwise the next file to be opened would get the number of a closed stream and receive what is printed.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")


def finish(code: int) -> int:
    """Flush stdout; returns the exit code: 1 if the reader has closed the pipe, 2 if writing fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter flushes again at exit and prints errors of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return code or 1
        from unierase_cli.cli.failures import tell

        return tell(f"cannot write the output: {error.strerror}", "send it elsewhere")
    return code


def check_place() -> None:
    """Raise UserError if the current folder was deleted: no relative path, including outputs/, would work."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the current folder no longer exists", "change to another one: cd FOLDER") from error
