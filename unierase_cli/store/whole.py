"""Files that a reader sees whole or not at all, and what a writer that was killed leaves of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
# Characters of a file's name in the name that it has until it is written: file systems take 255 bytes.
SHOWN = 40
# Ours, and what safetensors calls a file until it is written.
LEFT_BEHIND = (f"*{PART}", ".tmp*")
# A folder on its way out: no reader looks at it.
DISCARDED = ".old-"


def unused(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody else has and nobody can guess: what lies there may be removed."""
    return path.with_name(f".{path.name[:SHOWN]}.{secrets.token_hex(8)}{PART}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; what is there at the end takes the place of ``path``. After an error it is gone, and
    ``path`` is as it was: a full disk gets its room back."""
    temporary = unused(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # The name that whoever reads of it knows.
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole, and onto the disk itself."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def clear_left_behind(folder: Path) -> None:
    """Remove what writers that were killed had not finished, in the folder and below it."""
    for pattern in LEFT_BEHIND:
        for path in folder.rglob(pattern):
            if path.is_file():
                path.unlink(missing_ok=True)


def flush_to_disk(folder: Path) -> None:
    """Have the system write out every file of the folder and the names in it: what is said afterwards holds after a power cut."""
    for path in [*folder.rglob("*"), folder]:
        # Neither every file system nor every folder can be asked for this.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a folder at once for every reader, whatever happens while its files are deleted."""
    aside = folder.with_name(DISCARDED + folder.name)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def clear_discarded(parent: Path) -> None:
    """Finish what processes that were killed while they discarded a folder had begun."""
    for path in parent.glob(f"{DISCARDED}*"):
        shutil.rmtree(path, ignore_errors=True)
