"""Locks between processes, as files: the lock of a dead process is free."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unierase_cli.contracts import UserError


@contextmanager
def held(path: Path, waiting: Callable[[], None], elsewhere: str) -> Iterator[None]:
    """Hold the lock file ``path``, which is made if necessary; ``waiting`` is called once if another process holds it.

    Raises OSError if the file cannot be made, UserError if its file system does not support locks (``elsewhere``: what to type for
    another one).
    """
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"the file system of {path.parent} cannot lock files: {error.strerror}", elsewhere) from error
        yield
