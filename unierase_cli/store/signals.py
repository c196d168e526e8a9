"""A process that is asked to end tidies up first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM and a closed terminal end this process as Ctrl-C does: with its jobs ended, with unfinished files
    removed. Elsewhere than in the main thread, and where a signal is ignored (``nohup``), nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    taken = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) == signal.SIG_DFL]
    for kind in taken:
        signal.signal(kind, interrupt)
    try:
        yield
    finally:
        for kind in taken:
            signal.signal(kind, signal.SIG_DFL)
