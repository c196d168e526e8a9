"""First program of a sandboxed process: drops what generated code must not have, then becomes the second program.

Run by ``boot`` with ``MEMORY_MIB CPU_SECONDS NEXT...``, where NEXT are the arguments after ``python -c``. The kernel
enforces the restrictions, which survive the ``exec`` that ends this program, so the code later runs in an interpreter
that has never loaded ``ctypes``. Steps that this system does not allow are skipped; the last argument of the next
program lists what worked and what did not. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable

from unierase_cli.inference.sandbox.calls import allow_only_listed_calls
from unierase_cli.inference.sandbox.landlock import read_only_python

NOBODY = 65534
FILE_BYTES, OPEN_FILES = 1 << 20, 16
NEW_IPC, NEW_USER, NEW_NETWORK = 0x08000000, 0x10000000, 0x40000000
DIE_WITH_PARENT, DROP_POWER, POWERS = 1, 24, 64


def main() -> None:
    """Confine this process, then become the next program."""
    memory, cpu, *following = sys.argv[1:]
    steps: list[tuple[str, Callable[[], object]]] = [
        ("limits of memory and time", lambda: limit(int(memory) << 20, int(cpu)))
    ]
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        root = os.geteuid() == 0
        leaving = root and _readable_by_nobody()
        spaces = NEW_NETWORK | NEW_IPC | (0 if leaving else NEW_USER)
        steps = [
            # No devices. If the user stays, also a new user namespace: root has no power outside it.
            ("no network", lambda: _check(library.unshare(spaces))),
            *([("user nobody", become_nobody)] if leaving else []),
            *([("no powers of root", lambda: drop_powers(library))] if root and not leaving else []),
            *steps,
            # After any change of user, which would reset it.
            ("end with the parent", lambda: _check(library.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))),
            ("Landlock", lambda: read_only_python(library)),
            ("system-call filter", lambda: allow_only_listed_calls(library)),
        ]
    done, absent = [], []
    for name, step in steps:
        try:
            step()
        except (OSError, ValueError, KeyError):
            absent.append(name)
        else:
            done.append(name)
    told = ", ".join(done) + (f"; not available here: {', '.join(absent)}" if absent else "")
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", *following, told])


def become_nobody() -> None:
    """Drop root's rights for good, and give the folder to nobody."""
    os.chown(".", NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_powers(library: ctypes.CDLL) -> None:
    """Keep root's user id, but drop all its capabilities from the next ``exec`` on."""
    for power in range(POWERS):
        if library.prctl(DROP_POWER, power, 0, 0, 0) != 0:
            # The kernel has fewer capabilities than the upper bound.
            _check(0 if power else -1)
            return


def _readable_by_nobody() -> bool:
    """Whether this Python could still start and import if root became nobody."""
    try:
        os.seteuid(NOBODY)
    except OSError:
        return False
    try:
        library = os.path.dirname(os.__file__)
        return all(os.access(p, os.R_OK | os.X_OK, effective_ids=True) for p in (sys.executable, library))
    finally:
        os.seteuid(0)


def limit(memory: int, cpu: int) -> None:
    """Limit address space (bytes), CPU time (seconds), and size and number of files; no further processes, no core dump."""
    for kind, value, further in (
        ("CORE", 0, 0),
        ("CPU", cpu, 1),
        ("FSIZE", FILE_BYTES, 0),
        ("NOFILE", OPEN_FILES, 0),
        ("NPROC", 0, 0),
        ("AS", memory, 0),
    ):
        number = getattr(resource, f"RLIMIT_{kind}")
        _, most = resource.getrlimit(number)
        soft, hard = (v if most == resource.RLIM_INFINITY else min(v, most) for v in (value, value + further))
        resource.setrlimit(number, (soft, hard))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")
