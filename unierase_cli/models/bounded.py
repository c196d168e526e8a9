"""Runs third-party code that makes texts (chat templates) within limits of time, memory and length.

A template can count to any number, double a text endlessly or compute huge powers, and none of this can be stopped from
within: it runs in a child process, which the kernel ends. The child only renders, and exits without touching what it
shares with its parent. A fork costs about 40 ms of processor time per GiB that the process holds, so keep the texts.
Without a safe fork (macOS, Windows) there are no limits.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
import warnings
from collections.abc import Callable
from signal import SIGKILL
from typing import Any

# Templates take milliseconds and write some thousand characters. Seconds of CPU time, and of waiting on a busy machine.
SECONDS, PATIENCE = 2, 120
# Bytes of memory beyond what the process already uses, and bytes of the texts.
MEMORY, LONGEST = 1 << 30, 4 << 20
# The status that a child reports.
MADE, FAILED = "made", "failed"


class Exceeded(Exception):
    """The limits were reached; the message says which."""


class Failed(Exception):
    """What the code raised, as one line."""


def bounded(make: Callable[[], list[str]]) -> list[str]:
    """What ``make`` returns. Raises Exceeded at a limit, and Failed for what it raises."""
    if not sys.platform.startswith("linux"):
        return make()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns about forks beside threads; this child takes no lock that a thread could hold.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        _be_child(make, writing)
    os.close(writing)
    status = None
    try:
        content = _read(reading)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reading)
        if status is None:
            os.kill(child, SIGKILL)
            os.waitpid(child, 0)
    if not content:
        raise Exceeded(f"it takes more than {SECONDS} s or {MEMORY >> 20} MiB")
    kind, found = json.loads(content)
    if kind == FAILED:
        raise Failed(found)
    return list(found)


def _read(stream: int) -> bytes:
    """Everything that the child writes until it ends."""
    content, until = b"", time.monotonic() + PATIENCE
    while select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(stream, 1 << 16)
        content += piece
        if not piece:
            return content
        if len(content) > LONGEST:
            raise Exceeded(f"it writes more than {LONGEST >> 20} MiB")
    raise Exceeded(f"it does not end within {PATIENCE} s")


def _be_child(make: Callable[[], list[str]], stream: int) -> None:
    """Make the texts, write them, and exit without the parent's clean-up."""
    try:
        _limit()
        try:
            answer: list[Any] = [MADE, make()]
        except MemoryError:
            os._exit(1)
        except BaseException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            answer = [FAILED, lines[0][:1000] if lines else type(error).__name__]
        content = json.dumps(answer).encode("ascii")
        while content:
            content = content[os.write(stream, content) :]
    finally:
        os._exit(0)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with open("/proc/self/statm", encoding="ascii") as stream:
        held = int(stream.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = held + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
