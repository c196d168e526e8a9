"""Runs generated code against a HumanEval problem's tests, in separate processes.

Two processes are started (``confine``, then ``roles``): one holds the code, the other the tests, which call the code
over a pipe. All tests have passed if, and only if, the tests' process reports a random word that the code's process
never gets.

Enforced by the kernel, on Linux, even against code that bypasses Python and makes system calls itself:

* The run terminates: after ``seconds`` both processes are killed, by number and by group. CPU time and memory are bounded;
  output of the processes is discarded, and a report is read up to a few KiB.
* No descriptor can be opened once the allowed modules are imported, so no file is read, whoever owns it (only root could raise
  this limit; root becomes nobody if nobody can read this Python, otherwise it keeps its user id without any capability).
* A filter on x86_64 and aarch64 allows only the system calls that Python needs to start, compute and exit (``calls``): no
  processes, signals or sockets, and no file is created, written, moved, deleted or changed, in any folder.
* Landlock, if available (Linux 5.13), allows reading only Python's own files, should both limits above fail.
* No network (a namespace without devices), an empty environment, a closed standard input, ``python -I -S``.

Enforced by Python (``guard``): only a list of harmless modules can be imported, functions that reach the system raise,
and an audit hook ends the process at forbidden events. None of this stops code that corrupts the interpreter's memory.

Not prevented: such code can still query names, sizes and times of files, since it has no file system of its own.
Without the filter (other systems and processors), only limits and Python prevent processes, signals, sockets and
changes of files; ``Verdict.protections`` lists what was available and what was not. A kernel bug defeats everything.
Against code that was written to break out, run this tool in a container or a virtual machine.

The tests see plain values: an answer that is not a number, text, collection or None fails, and so does a test that
expects its argument to be changed in place.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from unierase_cli.contracts import UserError
from unierase_cli.temporary import temporary_folder

# Time for two Pythons to start on a busy machine; the code's own time counts from then on.
START_SECONDS = 60.0
# CPU time for starting, in addition to the code's own.
START_CPU_SECONDS = 3
REPORT_BYTES = 16 << 10
# The two programs that each process runs in turn, as modules, each after those it imports.
FIRST = ("calls", "landlock", "confine")
SECOND = ("values", "guard", "roles")


@dataclass(frozen=True)
class Limits:
    """Limits per problem: seconds of wall time (and about as many of CPU time), and MiB of address space."""

    seconds: float = 3.0
    memory_mib: int = 512


@dataclass(frozen=True)
class Verdict:
    """Whether all tests passed, else the reason; ``protections`` lists what confined the processes."""

    passed: bool
    reason: str
    seconds: float
    protections: str = ""


def run_tests(code: str, entry: str, tests: str, *, prompt: str = "", limits: Limits | None = None) -> Verdict:
    """Whether ``code`` defines a function ``entry`` that passes ``check(candidate)`` of ``tests``.

    ``prompt``: trusted text that defines what else the tests use. Never hangs. Raises UserError if the processes cannot
    be started, which says nothing about the code.
    """
    limits = limits or Limits()
    with temporary_folder("code") as folder:
        # Others may pass through, since the processes may have become nobody; only the processes can read the contents.
        folder.chmod(0o711)
        word = secrets.token_hex(16)
        problem = {"code": code, "entry": entry, "tests": tests, "prompt": prompt, "word": word}
        return _judge(folder, problem, limits)


def check_sandbox(limits: Limits) -> str:
    """Try a right and a wrong answer; returns the available protections. Raises UserError if the verdicts are wrong."""
    tests = "def check(candidate):\n    assert candidate(20) == 21\n"
    right = run_tests("def after(n):\n    return n + 1\n", "after", tests, limits=limits)
    wrong = run_tests("def after(n):\n    return n\n", "after", tests, limits=limits)
    if not right.passed or wrong.passed:
        told = [verdict.reason or "passed" for verdict in (right, wrong)]
        raise UserError(
            f"generated code cannot be run here: the verdict on a right answer is {told[0]!r}, on a wrong one {told[1]!r}",
            "raise eval.general.code_seconds and code_memory_mib, or leave human_eval out of eval.general.suites",
        )
    return right.protections


def _judge(folder: Path, problem: dict[str, str], limits: Limits) -> Verdict:
    pipes = [*os.pipe(), *os.pipe(), *os.pipe()]
    asked, ask, answered, answer, report, say = pipes
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as complaints:
            given.write(json.dumps(problem).encode("utf-8"))
            given.seek(0)
            try:
                processes.append(_start("solution", folder, [asked, answer], limits, complaints))
                processes.append(_start("tests", folder, [answered, ask], limits, complaints, given, say))
            except OSError as error:
                raise UserError(f"no process for generated code: {error.strerror}", "free some memory") from error
            for end in (asked, ask, answered, answer, say):
                os.close(end)
                pipes.remove(end)
            return _listen(report, problem["word"], limits, complaints)
    finally:
        for process in processes:
            _kill(process)
        for end in pipes:
            os.close(end)


def _start(
    role: str,
    folder: Path,
    ends: Sequence[int],
    limits: Limits,
    complaints: IO[bytes],
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    report: int = -1,
) -> subprocess.Popen[bytes]:
    """A confined process in its own session and empty folder; only the tests' process may write to ``complaints``."""
    place = folder / role
    place.mkdir(mode=0o700)
    seconds = math.ceil(limits.seconds) + START_CPU_SECONDS
    boot = _source("boot")
    confine = [boot, _modules(FIRST), str(limits.memory_mib), str(seconds)]
    following = [boot, _modules(SECOND), role, *map(str, ends), str(report)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", *confine, *following],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=complaints if role == "tests" else subprocess.DEVNULL,
        cwd=place,
        env={},
        pass_fds=[end for end in (*ends, report) if end >= 0],
        start_new_session=True,
    )


def _modules(names: Sequence[str]) -> str:
    """Modules in the format that ``boot`` reads."""
    return json.dumps([(f"{__package__}.{name}", _source(name)) for name in names])


@cache
def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.py").read_text("utf-8")


def _listen(report: int, word: str, limits: Limits, complaints: IO[bytes]) -> Verdict:
    """Wait for "ready", then, for the code's time limit, for the word."""
    lines = _Lines(report)
    ready = lines.next(time.monotonic() + START_SECONDS)
    if ready is None or "ready" not in ready:
        complaints.seek(0)
        said = complaints.read(REPORT_BYTES).decode("utf-8", "replace").strip().splitlines()
        raise UserError(
            f"the processes for generated code do not start: {said[-1] if said else 'no answer'}",
            "raise eval.general.code_memory_mib, or leave human_eval out of eval.general.suites",
        )
    started = time.monotonic()
    told = lines.next(started + limits.seconds)
    seconds = round(time.monotonic() - started, 3)
    if told is not None and told.get("word") == word:
        return Verdict(True, "", seconds, ready["ready"])
    if told is None:
        reason = "the tests' process ended" if lines.ended else f"not done after {limits.seconds:g} s"
    else:
        reason = str(told.get("reason", "the tests' process gave an unexpected report"))[:300]
    return Verdict(False, reason, seconds, ready["ready"])


class _Lines:
    """The JSON lines that arrive on a pipe, each with a deadline; ``ended``: nothing more will come."""

    def __init__(self, channel: int) -> None:
        self.channel, self.kept, self.ended = channel, b"", False
        self.poll = select.poll()
        self.poll.register(channel, select.POLLIN)

    def next(self, deadline: float) -> dict[str, str] | None:
        """The next line; None at the deadline, if the pipe is closed, or for an invalid report."""
        while b"\n" not in self.kept:
            left = deadline - time.monotonic()
            if left <= 0 or not self.poll.poll(left * 1000):
                return None
            part = os.read(self.channel, 4096)
            self.kept += part
            if not part or len(self.kept) > REPORT_BYTES:
                self.ended = True
                return None
        line, _, self.kept = self.kept.partition(b"\n")
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            return found if isinstance(found, dict) else {}
        return {}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group; one that the kernel does not release is not waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
