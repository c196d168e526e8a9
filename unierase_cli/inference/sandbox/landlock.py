"""Landlock (Linux 5.13): a sandboxed process can only read its Python's own files; standard library only.

It protects the content of files and folders, but not their names and sizes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
ASK_VERSION, BENEATH_PATH, NO_NEW_PRIVILEGES = 1, 1, 38
EXECUTE, READ_FILE, READ_FOLDER = 1, 4, 8
# Number of file access rights in each version of Landlock; all are restricted, few are granted again.
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
MOST_RIGHTS = 16
# What the dynamic loader reads to find libraries, and what Python reads at startup.
START_FILES = (
    "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
    "/usr/lib/locale", "/usr/share/locale/locale.alias", "/dev/urandom",
)  # fmt: skip


def read_only_python(library: ctypes.CDLL) -> None:
    """Drop access to all files but Python's own, which may be read and executed. Raises OSError if the kernel has no Landlock."""
    version = _call(library, CREATE, None, 0, ASK_VERSION)
    every = (1 << RIGHTS.get(version, MOST_RIGHTS)) - 1
    rules = _call(library, CREATE, struct.pack("Q", every), 8, 0)
    for path in own_files():
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = EXECUTE | READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)
        _call(library, ADD_RULE, rules, BENEATH_PATH, struct.pack("=Qi", rights, place), 0)
        os.close(place)
    if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "new privileges")
    _call(library, RESTRICT, rules, 0)
    os.close(rules)


def own_files() -> list[str]:
    """The interpreter, its library, the folders of the native libraries it has loaded, and the files that locate them."""
    executable = os.path.realpath(sys.executable)
    mark = [os.path.join(folder, "pyvenv.cfg") for folder in _and_parent(os.path.dirname(sys.executable))]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        words = [line.split(None, 5) for line in maps]
    loaded = {word[5].strip() for word in words if len(word) == 6 and word[5].startswith("/") and "x" in word[1]}
    folders = {os.path.dirname(path) for path in loaded if path != executable}
    library = [path for path in (*sys.path, os.path.dirname(os.__file__)) if path.startswith("/")]
    return list(dict.fromkeys([executable, *mark, *START_FILES, *library, *sorted(folders)]))


def _and_parent(folder: str) -> tuple[str, str]:
    return folder, os.path.dirname(folder)


def _call(library: ctypes.CDLL, number: int, *words: object) -> int:
    sized = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    result = int(library.syscall(ctypes.c_long(number), *sized))
    if result < 0:
        raise OSError(ctypes.get_errno(), "no Landlock")
    return result
