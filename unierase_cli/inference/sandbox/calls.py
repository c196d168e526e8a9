"""The system calls that a sandboxed process may make, as a seccomp filter for x86_64 and aarch64; standard library
only.

The filter is an allow list, so that new kernel features stay unavailable: an unlisted call fails with "no such call",
an unlisted argument with "not permitted", and a call of another architecture ends the process. Allowed calls let Python
start, read files, read the time and exit; none starts, signals or inspects processes, opens sockets, or creates,
changes, moves or deletes a file.
"""

from __future__ import annotations

import ctypes
import platform
import struct

# Kernel numbers of the architectures; the tables hold a call's number on x86_64, then on aarch64 (None: it has none).
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
Numbers = tuple[int | None, int | None]
ALLOWED: dict[str, Numbers] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "close": (3, 57),
    "lseek": (8, 62), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "fadvise64": (221, 223),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # File metadata: needed for imports, and impossible to withdraw later.
    "stat": (4, None), "lstat": (6, None), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17),
    # Memory, and what a C library needs at startup. Without rt_sigaction: a handler sees the interrupted frame.
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    "arch_prctl": (158, None), "set_tid_address": (218, 96), "set_robust_list": (273, 99), "rseq": (334, 293),
    "futex": (202, 98), "getrandom": (318, 278), "execve": (59, 221), "exit": (60, 93), "exit_group": (231, 94),
    # Time and identity.
    "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179), "sched_getaffinity": (204, 123),
    "getrlimit": (97, 163), "setrlimit": (160, 164),
}  # fmt: skip
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND; O_TMPFILE needs one of the first two.
CHANGING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
NONE_OF, EXACTLY, AT_MOST = "none of these bits", "exactly", "at most"
# The argument to check, and the condition on its lower half.
ON_CONDITION: dict[str, tuple[Numbers, int, str, int]] = {
    "open": ((2, None), 1, NONE_OF, CHANGING),
    "openat": ((257, 56), 2, NONE_OF, CHANGING),
    # Only its own limits, not those of other processes of the same user.
    "prlimit64": ((302, 261), 0, EXACTLY, 0),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL. Later commands can make the kernel send any signal to any process.
    "fcntl": ((72, 25), 1, AT_MOST, 4),
}
LOAD, EQUAL, ABOVE, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
ALLOW, NO_SUCH_CALL, NOT_PERMITTED, KILL = 0x7FFF0000, 0x00050026, 0x00050001, 0x80000000
# Numbers from here on are x86_64's second set of calls (x32), which is unused.
SECOND_SET = 0x40000000
NO_NEW_PRIVILEGES, SET_FILTER, FILTER = 38, 22, 2
Line = tuple[int, int, int, int]


def allow_only_listed_calls(library: ctypes.CDLL) -> None:
    """Install the filter permanently. Raises KeyError on other processors, OSError if the kernel has no filters."""
    lines = program(*ARCHITECTURES[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    header = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code))
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_FILTER, FILTER, ctypes.c_char_p(header), 0, 0)):
        if library.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), "no system-call filter")


def program(column: int, architecture: int) -> list[Line]:
    """The filter as lines (operation, lines to skip if true, if false, operand)."""
    lines = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    lines += [(AT_LEAST, 0, 1, SECOND_SET), (RETURN, 0, 0, KILL)]
    for numbers, argument, condition, value in ON_CONDITION.values():
        if (call := numbers[column]) is not None:
            operation, refused = {EXACTLY: (EQUAL, 0), AT_MOST: (ABOVE, 1), NONE_OF: (ANY_BIT, 1)}[condition]
            test = (operation, refused, 1 - refused, value)
            lines += [(EQUAL, 0, 4, call), (LOAD, 0, 0, 16 + 8 * argument), test]
            lines += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOT_PERMITTED)]
    calls = [call for numbers in ALLOWED.values() if (call := numbers[column]) is not None]
    lines += [(EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    return [*lines, (RETURN, 0, 0, NO_SUCH_CALL), (RETURN, 0, 0, ALLOW)]
