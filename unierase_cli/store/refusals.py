"""Turns errors of the system (disk space, permissions, missing files, memory) into one-line messages.

Libraries written in Rust (safetensors, tokenizers) raise their own exceptions, which keep the error number only in the text.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from unierase_cli.contracts import UserError

GOES_ON = "the same command then resumes"
ELSEWHERE = "choose another folder with --outputs"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
TOO_LARGE, READ_ONLY, DISK = (errno.EFBIG,), (errno.EROFS,), (errno.EIO, errno.ESTALE)
FORBIDDEN, GONE = (errno.EACCES, errno.EPERM), (errno.ENOENT, errno.ENOTDIR)
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
NO_TEMPORARY = "No usable temporary directory"
# An OS error as Rust prints it.
NUMBER = re.compile(r"\(os error (\d+)\)")
# torch on the CPU raises RuntimeError, numpy a subclass of MemoryError; CUDA libraries put a name into the text.
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|_ALLOC_FAILED|Cannot allocate memory")


def as_user_error(
    error: BaseException, what: str = "", *, again: str = GOES_ON, elsewhere: str = ELSEWHERE
) -> UserError | None:
    """The system error behind an exception as a UserError, prefixed by ``what`` was being done; None for other exceptions.

    ``again``: what the same command does once the problem is solved; ``elsewhere``: how to choose another place.
    """
    for cause in causes(error):
        if isinstance(cause, RuntimeError) and "home directory" in str(cause).lower():
            return UserError("a path starts with ~, but there is no home folder", "write the whole path, or set HOME")
        if isinstance(cause, OSError) and NO_TEMPORARY in str(cause):
            return UserError("no folder for temporary files is writable", "set TMPDIR to one that is")
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
            return UserError(f"{before}a file is larger than allowed here{at}", f"raise `ulimit -f`; {again}")
        if number in READ_ONLY:
            return UserError(f"{before}the file system is read-only{at}", elsewhere)
        if number in FORBIDDEN:
            return UserError(f"{before}no permission{at}", f"check whose files these are, or {elsewhere}")
        if number in TOO_MANY_OPEN:
            return UserError(f"{before}too many open files", f"raise `ulimit -n`; {again}")
        if number in NO_NAME:
            return UserError(f"{before}no file can have this name{at}", "check the paths that were given")
        if number in DISK:
            return UserError(f"{before}the disk reports an error{at}", f"check the disk; {again}")
        # Without a file name the message would not help; a traceback says more.
        if number in GONE and file:
            return UserError(f"{before}{file} is missing", f"put it back; {again}")
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
    """The exception and its chain of explicit causes (``__cause__``, not ``__context__``)."""
    while error is not None:
        yield error
        error = error.__cause__


def number_of(error: BaseException) -> int | None:
    """The OS error number of an exception, or None."""
    if isinstance(error, OSError):
        return error.errno
    # The project's own errors and programming errors carry no OS error number.
    if isinstance(error, UserError | TypeError | AttributeError | LookupError):
        return None
    found = NUMBER.search(str(error))
    return int(found.group(1)) if found else None
