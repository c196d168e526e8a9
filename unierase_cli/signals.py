"""Lets a process clean up before it is terminated."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Signals that ask a process to end: `kill`, and a closed terminal.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """Raised by a signal: the process ends with that signal once everything under way is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end this process as Ctrl-C does: its jobs are ended and unfinished files removed."""
    with _raising(lambda number: KeyboardInterrupt()):
        yield


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise ``Ended``; after the block is left, the process ends with that signal."""
    ended = 0
    try:
        with _raising(Ended):
            yield
    except Ended as error:
        ended = error.number
    if ended:
        os.kill(os.getpid(), ended)


@contextmanager
def _raising(error: Callable[[int], BaseException]) -> Iterator[None]:
    """Raise an error at the first of these signals; ignore further ones until the block is left.

    Signals that are already handled or ignored (``nohup``) are left alone, as are all signals outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise error(number)

    try:
        for number in caught:
            signal.signal(number, end)
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
