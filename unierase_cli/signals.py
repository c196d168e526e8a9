"""A process that is asked to end tidies up first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What asks a process to end: `kill`, and a terminal that is closed.
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """The process is to end of this signal, as soon as what is under way has been tidied up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end this process as Ctrl-C does: with its jobs ended, with unfinished files removed."""
    with _raising(lambda number: KeyboardInterrupt()):
        yield


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise ``Ended``; once everything inside has been left, the process ends of that signal."""
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
    """Let the first of these signals raise an error; further ones are ignored until everything inside has been left.

    Signals that somebody else handles or ignores (``nohup``) stay theirs; in a thread nothing changes.
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
