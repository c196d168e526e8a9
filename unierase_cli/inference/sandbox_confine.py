"""First program of a sandboxed process: gives up what generated code must not have, then becomes the second program.

Run as ``python -I -S -c SOURCE MEMORY_MIB CPU_SECONDS NEXT_SOURCE WORDS...`` with nothing but the standard library. What is given
up here is given up in the kernel and survives the ``exec`` that ends this program, so the code that comes later runs in an
interpreter that has never loaded ``ctypes``. Every step that this system does not allow is left out; the names of those that
worked are passed on as the last word.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

NOBODY = 65534
FILE_BYTES, OPEN_FILES = 1 << 20, 16
NEW_IPC, NEW_USER, NEW_NETWORK = 0x08000000, 0x10000000, 0x40000000
NO_NEW_PRIVILEGES, DIE_WITH_PARENT, SET_FILTER, FILTER = 38, 1, 22, 2
# System calls that start or signal processes, open sockets, look into other processes, or change what is mounted; also the
# one that handles signals, since a handler sees the interrupted frame, be it the audit hook's. By machine: the kernel's number
# of its architecture, then the calls. 424 to 435 have one number everywhere: pidfd_send_signal, io_uring_setup, pidfd_open, clone3.
EVERYWHERE = [424, 425, 434, 435]
REFUSED = {
    # rt_sigaction socket connect accept socketpair clone fork vfork kill ptrace chroot mount tkill tgkill add_key request_key
    # keyctl unshare perf_event_open setns process_vm_readv process_vm_writev bpf userfaultfd
    "x86_64": (0xC000003E, [
        13, 41, 42, 43, 53, 56, 57, 58, 62, 101, 161, 165, 200, 234, 248, 249, 250, 272, 298, 308, 310, 311, 321, 323,
    ]),
    "aarch64": (0xC00000B7, [
        134, 198, 203, 202, 199, 220, 129, 117, 51, 40, 130, 131, 217, 218, 219, 97, 241, 268, 270, 271, 280, 282,
    ]),
}  # fmt: skip
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, NOT_PERMITTED, KILL = 0x7FFF0000, 0x00050001, 0x80000000
# Numbers from here on are x86_64's second set of calls, which nothing here uses.
SECOND_SET = 0x40000000


def main() -> None:
    """Confine this process, then become ``NEXT_SOURCE``."""
    memory, cpu, source, *words = sys.argv[1:]
    steps = [("memory and processor limits", lambda: limit(int(memory) << 20, int(cpu)))]
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        leaving = os.geteuid() == 0 and _readable_by_nobody()
        spaces = NEW_NETWORK | NEW_IPC | (0 if leaving else NEW_USER)
        steps = [
            # Without any device. In a user namespace of its own, too, if the user stays: root has no power from there.
            ("no network", lambda: _check(library.unshare(spaces))),
            *([("user nobody", become_nobody)] if leaving else []),
            *steps,
            # After any change of user, which would take it back.
            ("end with the parent", lambda: _check(library.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))),
            ("system-call filter", lambda: refuse_calls(library)),
        ]
    done = []
    for name, step in steps:
        try:
            step()
        except (OSError, ValueError, KeyError):
            continue
        done.append(name)
    flags = ["-I", "-S", "-B", "-X", "utf8"]
    os.execv(sys.executable, [sys.executable, *flags, "-c", source, *words, ", ".join(done)])


def become_nobody() -> None:
    """Root's rights go for good; the folder goes along."""
    os.chown(".", NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


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
    """Address space in bytes, processor time in seconds, size and number of files; no further processes, no core dump."""
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


def refuse_calls(library: ctypes.CDLL) -> None:
    """A seccomp filter: the calls of ``REFUSED`` give "not permitted", calls of another architecture end the process."""
    architecture, calls = REFUSED[platform.machine()]
    refused = [*calls, *EVERYWHERE]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, 0, 1, SECOND_SET), (RETURN, 0, 0, KILL)]
    program += [(EQUAL, len(refused) - place, 0, call) for place, call in enumerate(refused)]
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOT_PERMITTED)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    _check(library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check(library.prctl(SET_FILTER, FILTER, ctypes.c_char_p(header), 0, 0))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")


if __name__ == "__main__":
    main()
