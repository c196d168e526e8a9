"""What a process is started with, made fit for use: the three standard streams, and the folder that it stands in."""

from __future__ import annotations

import os
import sys

from unierase_cli.contracts import UserError


def settle_streams() -> None:
    """Open what was closed (``>&-``) on the null device, and let no character be one that a stream cannot write.

    A closed stream's number would go to the next file that is opened, and what is printed would end up there.
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
    """Write out what is still held back. Returns the exit code: 1 where nobody reads it, 2 where it can't be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter would try again at its end, and complain in lines of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return code or 1
        from unierase_cli.cli.failures import tell

        return tell(f"what was to be printed cannot be written: {error.strerror}", "send it elsewhere")
    return code


def check_place() -> None:
    """Raise UserError in a folder that was deleted: no path that is typed, and not outputs/, means anything there."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the current folder is not there any more", "go to one that is: cd FOLDER") from error
