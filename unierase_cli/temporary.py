"""Temporary folders that are removed even if the process is terminated.

SIGTERM and SIGHUP wait until the folder is removed. SIGKILL and power cuts leave it behind: the next process that makes
a folder of the same kind removes those of dead processes. A living process holds a lock (flock) on its folder; the lock
ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unierase_cli.signals import ending_in_order

# The random suffix that mkdtemp appends.
ENDING = "[a-z0-9_]{8}"


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """A new folder in the system's temporary directory, private to this user and removed at the end.

    ``kind`` becomes part of its name.
    """
    prefix = f"unierase-{kind}-{os.geteuid()}-"
    with ending_in_order():
        _clear(prefix)
        folder, lock = _locked(prefix)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock; on a file system without locks, nothing is locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        # Until the lock is held, another process may take the folder for a dead process's and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _clear(prefix: str) -> None:
    """Remove this user's folders of the kind that no living process holds; without lock support, remove none."""
    known = re.compile(re.escape(prefix) + ENDING)
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            state = path.lstat()
            if not known.fullmatch(path.name) or not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
