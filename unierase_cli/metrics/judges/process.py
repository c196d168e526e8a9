"""Runs a judge in its own process: if it hangs, crashes or runs out of memory, scoring goes on without it.

The process (``worker``) reads requests as JSON lines on its standard input. It writes a line after every batch, which tells a slow
judge from a hung one, and a last line with its results.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unierase_cli.metrics.judges.kinds import KINDS, JudgeAbsent

WORKER = "unierase_cli.metrics.judges.worker"
PACKAGES = str(Path(__file__).resolve().parents[3])
BLOCK = 1 << 16


class JudgeProcess:
    """The judge ``name``, loaded from its folder in another process; call it with texts or pairs to get its results.

    Every step waits at most ``seconds``. Creating and calling it raise JudgeAbsent if the judge is unreadable, hangs or exits.
    """

    def __init__(self, kind: str, name: str, folder: Path, seconds: float) -> None:
        self.title, self.seconds = f"the {KINDS[kind][0]} {name}", seconds
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", WORKER, kind, name, str(folder), str(_threads())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (PACKAGES, os.environ.get("PYTHONPATH"))))},
            # After Ctrl-C the worker exits because its standard input closes with this process.
            start_new_session=True,
        )
        weakref.finalize(self, _end, self.process)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._ask, self._answer = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._ask, False)
        self._kept = bytearray()
        self._wait_for("ready")

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self._send(json.dumps(list(items)).encode("utf-8") + b"\n")
        said: list[Any] = self._wait_for("said")
        return said

    def _send(self, message: bytes) -> None:
        left, deadline = memoryview(message), time.monotonic() + self.seconds
        while left:
            if not select.select([], [self._ask], [], max(0.0, deadline - time.monotonic()))[1]:
                raise self._hung()
            try:
                left = left[os.write(self._ask, left[:BLOCK]) :]
            except BrokenPipeError:
                raise self._ended() from None

    def _wait_for(self, what: str) -> Any:
        while True:
            told = self._line()
            if "absent" in told:
                raise JudgeAbsent(told["absent"])
            if what in told:
                return told[what]

    def _line(self) -> dict[str, Any]:
        deadline, searched = time.monotonic() + self.seconds, 0
        while (end := self._kept.find(b"\n", searched)) < 0:
            searched = len(self._kept)
            if not select.select([self._answer], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._hung()
            part = os.read(self._answer, BLOCK)
            if not part:
                raise self._ended()
            self._kept += part
        line = bytes(self._kept[:end])
        del self._kept[: end + 1]
        message: dict[str, Any] = json.loads(line)
        return message

    def _hung(self) -> JudgeAbsent:
        _end(self.process)
        return JudgeAbsent(
            f"{self.title} did not respond for {self.seconds:g} s and was stopped; raise eval.judge_seconds"
        )

    def _ended(self) -> JudgeAbsent:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        _end(self.process)
        code = self.process.returncode or 0
        if code < 0:
            name = next((kind.name for kind in signal.Signals if kind == -code), f"signal {-code}")
            memory = ", most often for want of memory" if name == "SIGKILL" else ""
            return JudgeAbsent(f"{self.title} was killed by {name}{memory}; free some, and score again with --force")
        self.complaints.seek(0)
        said = [line.strip() for line in self.complaints.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return JudgeAbsent(f"{self.title} exited: {(said or [f'exit code {code}'])[-1][:200]}; score again with --force")


def _threads() -> int:
    """Number of torch threads in this process, to use as many in the other; 0 if torch is not loaded."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else int(torch.get_num_threads())


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
