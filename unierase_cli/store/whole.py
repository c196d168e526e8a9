"""Atomic file writes, and removal of what killed writers leave behind."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
# Characters of the file name kept in the temporary name; file systems allow 255 bytes.
SHOWN = 40
# Our temporary files, and those of safetensors.
LEFT_BEHIND = (f"*{PART}", ".tmp*")
# Prefix of a folder that is being removed; readers ignore it.
DISCARDED = ".old-"


def unused(path: Path) -> Path:
    """A hidden, unguessable name beside ``path``; whatever has such a name may be removed."""
    return path.with_name(f".{path.name[:SHOWN]}.{secrets.token_hex(8)}{PART}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces ``path`` at the end.

    After an error the temporary file is removed and ``path`` is unchanged, so a full disk gets its space back.
    """
    temporary = unused(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # Report the name that the user knows.
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically and flush it to the disk."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def clear_left_behind(folder: Path) -> None:
    """Remove temporary files of killed writers in the folder and below it."""
    for pattern in LEFT_BEHIND:
        for path in folder.rglob(pattern):
            if path.is_file():
                path.unlink(missing_ok=True)


def flush_to_disk(folder: Path) -> None:
    """Flush every file and directory entry of the folder to the disk, so that it survives a power cut."""
    for path in [*folder.rglob("*"), folder]:
        # Some file systems and folders do not support this.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a folder; readers stop seeing it at once, even if deleting its files is interrupted."""
    aside = folder.with_name(DISCARDED + folder.name)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def clear_discarded(parent: Path) -> None:
    """Remove folders whose removal a killed process left incomplete."""
    for path in parent.glob(f"{DISCARDED}*"):
        shutil.rmtree(path, ignore_errors=True)
