"""What the machine refuses - room, rights, a file that is gone, memory - told in one line instead of a traceback.

Libraries written in Rust (safetensors, tokenizers) raise errors of their own kinds that keep the system's number as text only.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from unierase_cli.contracts import UserError

GOES_ON = "the same command then goes on"
ELSEWHERE = "choose another folder with --outputs"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
TOO_LARGE, READ_ONLY, DISK = (errno.EFBIG,), (errno.EROFS,), (errno.EIO, errno.ESTALE)
FORBIDDEN, GONE = (errno.EACCES, errno.EPERM), (errno.ENOENT, errno.ENOTDIR)
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
NO_TEMPORARY = "No usable temporary directory"
# As Rust prints an error of the system.
NUMBER = re.compile(r"\(os error (\d+)\)")
# torch on the CPU raises a RuntimeError; numpy a subclass of MemoryError; CUDA's libraries put a name into the text.
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|_ALLOC_FAILED|Cannot allocate memory")


def as_user_error(
    error: BaseException, what: str = "", *, again: str = GOES_ON, elsewhere: str = ELSEWHERE
) -> UserError | None:
    """The refusal behind an error, ``what`` was being done in front; None for an error that is no refusal of the machine's.

    ``again``: what the same command does once there is room; ``elsewhere``: how another place is chosen.
    """
    for cause in causes(error):
        if isinstance(cause, RuntimeError) and "home directory" in str(cause).lower():
            return UserError("a path that starts with ~ names nobody's home folder", "write the whole path, or set HOME")
        if isinstance(cause, OSError) and NO_TEMPORARY in str(cause):
            return UserError("no folder for temporary files can be written", "set TMPDIR to one that can")
        number = number_of(cause)
        if number is None:
            continue
        name = getattr(cause, "filename", None)
        file = str(name) if isinstance(name, str) else ""
        at = f" ({file})" if file else ""
        before = f"{what}: " if what else ""
        if number in NO_ROOM:
            return UserError(f"{before}the disk is full{at}", f"free some space; {again}")
        if number in TOO_LARGE:
            return UserError(f"{before}a file is larger than is allowed here{at}", f"raise `ulimit -f`; {again}")
        if number in READ_ONLY:
            return UserError(f"{before}the file system is read-only{at}", elsewhere)
        if number in FORBIDDEN:
            return UserError(f"{before}no permission{at}", f"check whose files these are, or {elsewhere}")
        if number in TOO_MANY_OPEN:
            return UserError(f"{before}too many open files", f"raise `ulimit -n`; {again}")
        if number in NO_NAME:
            return UserError(f"{before}no file can have this name{at}", "check the paths that were given")
        if number in DISK:
            return UserError(f"{before}the disk does not answer as it should{at}", f"check the disk; {again}")
        # Without a name it says nothing to the user, and a traceback says more.
        if number in GONE and file:
            return UserError(f"{before}{file} is not there, or no longer", f"put it back; {again}")
    return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on the device or on the machine."""
    return any(
        isinstance(cause, MemoryError)
        or type(cause).__name__ == "OutOfMemoryError"
        or number_of(cause) == errno.ENOMEM
        or (isinstance(cause, RuntimeError) and NO_MEMORY.search(str(cause)) is not None)
        for cause in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from; not what was merely being handled meanwhile."""
    while error is not None:
        yield error
        error = error.__cause__


def number_of(error: BaseException) -> int | None:
    """The system's number of an error."""
    if isinstance(error, OSError):
        return error.errno
    # What was told in the project's own words needs no second look, nor do the errors of the language.
    if isinstance(error, UserError | TypeError | AttributeError | LookupError):
        return None
    found = NUMBER.search(str(error))
    return int(found.group(1)) if found else None
