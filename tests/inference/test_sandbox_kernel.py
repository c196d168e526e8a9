"""What the kernel alone holds back: native code at hand, no audit hook, nothing taken away, and each wall by itself."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.trials import LIMITS, RIGHT, TESTS
from unierase_cli.inference.sandbox import calls as sandbox_calls
from unierase_cli.inference.sandbox import sandbox
from unierase_cli.inference.sandbox.sandbox import check_sandbox, run_tests

# What native code would try, as calls of the C library. Should all walls be down, none of them harms more than its own process,
# its own folder, and what lies in ``{decoy}`` for that purpose.
CHANGES = [
    "open(b'x', 0o101, 0o600)", "open(b'.', 0o20200002, 0o600)", "creat(b'x', 0o600)", "openat(-100, b'x', 0o102, 0o600)",
    "open(b'{decoy}/kept', 1)", "open(b'{decoy}/kept', 0o1000)", "open(b'{decoy}/kept', 0o2001)", "truncate(b'{decoy}/kept', 0)",
    "mkfifo(b'x', 0o600)", "mknod(b'x', 0o100600, 0)", "mkdir(b'x', 0o700)", "mkdirat(-100, b'y', 0o700)",
    "rename(b'{decoy}/kept', b'{decoy}/moved')", "renameat2(-100, b'{decoy}/kept', -100, b'{decoy}/moved', 0)",
    "unlink(b'{decoy}/kept')", "unlinkat(-100, b'{decoy}/kept', 0)", "rmdir(b'{decoy}/empty')",
    "link(b'{decoy}/kept', b'x')", "symlink(b'{decoy}/kept', b'x')", "chmod(b'{decoy}/kept', 0o777)",
    "fchmodat(-100, b'{decoy}/kept', 0o777, 0)", "chown(b'{decoy}/kept', -1, -1)", "fchownat(-100, b'{decoy}/kept', -1, -1, 0)",
    "utimensat(-100, b'{decoy}/kept', None, 0)", "setxattr(b'{decoy}/kept', b'user.x', b'y', 1, 0)", "chdir(b'/')",
    "memfd_create(b'x', 0)", "shmget(0, 4096, 0o1600)",
]  # fmt: skip
OTHERS = [
    "fork()", "kill({me}, 0)", "killpg(0, 0)", "fcntl(0, 8, {me})", "fcntl(0, 10, 9)", "setpriority(0, 0, 19)",
    "prlimit({me}, 7, None, room)", "socket(2, 1, 0)", "socket(1, 1, 0)", "socketpair(1, 1, 0, room)",
    "process_vm_readv({me}, room, 1, room, 1, 0)", "personality(0)", "alarm(1)", "signal(14, 0)", "sigaction(14, None, room)",
    "syscall(425, 8, room)", "syscall(437, -100, b'.', room, 24)", "syscall(444, None, 0, 1)", "prctl(22, 1, 0, 0, 0)",
]  # fmt: skip
# With arguments that any kernel refuses for another reason: these calls must not be there at all.
GONE = [
    "mount(None, None, None, 0, None)", "umount2(None, 0)", "chroot(None)", "swapon(None, 0)", "setns(-1, 0)", "unshare(-1)",
    "ptrace(99, -1, 0, 0)", "sched_setaffinity(-1, 0, None)", "syscall(435, None, 0)", "syscall(424, -1, 0, None, 0)",
    "syscall(434, -1, 0)", "syscall(441, -1, 0, 0, 0, 0, 0)", "fanotify_init(-1, 0)", "bind(-1, None, 0)", "sendmsg(-1, None, 0)",
]  # fmt: skip
READS = [
    "open(b'/etc/passwd', 0)",
    "openat(-100, b'/etc', 0o200000)",
    "open(b'/proc/self/mem', 0)",
    "open(b'..', 0o200000)",
]
DESCRIPTORS = ["dup(0)", "pipe(room)", "open(b'/dev/null', 0)", "epoll_create1(0)", "eventfd(0, 0)", "fcntl(0, 0, 0)"]
NATIVE = """
import ctypes
library = ctypes.CDLL(None, use_errno=True)
room = (ctypes.c_char * 256)()
def refused(text, errors):
    ctypes.set_errno(0)
    return eval("library." + text, globals()) == -1 and ctypes.get_errno() in errors
def after(n):
    me = str(library.getpid())
    return [(t, ctypes.get_errno()) for t in ATTEMPTS if not refused(t.replace("{me}", me), ERRORS)]
"""


def edited(monkeypatch: pytest.MonkeyPatch, *edits: tuple[str, str, str]) -> None:
    """Run with (module, text, other text in its place)."""
    source = sandbox._source

    def of(name: str) -> str:
        text = source(name)
        for module, old, new in edits:
            assert module != name or old in text
            text = text.replace(old, new) if module == name else text
        return text

    monkeypatch.setattr(sandbox, "_source", of)


WITHOUT_LANDLOCK = ("confine", '("Landlock", lambda: read_only_python(library)),', "")
WITHOUT_FILTER = ("confine", '("system-call filter", lambda: allow_only_listed_calls(library)),', "")
OPENING_FILES = ("guard", "    open_no_more_files()\n", "")
# No audit hook, nothing taken away, native code at hand: what the kernel alone holds.
BROKEN_OUT = (
    ("guard", "    sys.addaudithook(hook)\n", ""),
    ("guard", "    take_away(refused)\n", ""),
    ("guard", '"zlib",\n', '"zlib", "ctypes",\n'),
    ("guard", '"ctypes", "_ctypes", ', ""),
)


@pytest.fixture
def decoy() -> Iterator[Path]:
    """A folder that anybody may change, and nobody must have changed at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kept").write_text("text")
        (folder / "empty").mkdir()
        for path in (folder, folder / "kept", folder / "empty"):
            path.chmod(0o777 if path.is_dir() else 0o666)
        before = (folder / "kept").stat()
        yield folder
        assert sorted(path.name for path in folder.iterdir()) == ["empty", "kept"]
        assert (folder / "kept").stat() == before
        assert (folder / "kept").read_text() == "text"


def got_through(attempts: list[str], *errors: int, decoy: Path = Path("none")) -> list[str]:
    """What of the attempts did not fail with one of these errors, and with which it failed."""
    asked = [text.replace("{decoy}", str(decoy)) for text in attempts]
    code = f"ATTEMPTS, ERRORS = {asked!r}, {errors!r}\n{NATIVE}"
    tests = "def check(candidate):\n    raise ValueError(repr(candidate(0)))\n"
    reason = run_tests(code, "after", tests, limits=LIMITS).reason
    assert reason.startswith("ValueError: ["), reason
    return [] if reason == "ValueError: []" else [reason]


def need(*names: str) -> None:
    protections = check_sandbox(LIMITS)
    offered = protections.partition(";")[0]
    if not all(name in offered for name in names):
        pytest.skip(f"this system only offers: {protections}")


NOT_PERMITTED, DENIED, INVALID, NO_DESCRIPTOR, NO_SUCH_CALL = 1, 13, 22, 24, 38


def test_all_walls_together_hold_against_native_code(monkeypatch: pytest.MonkeyPatch, decoy: Path) -> None:
    need("system-call filter")
    edited(monkeypatch, *BROKEN_OUT)
    assert got_through([*CHANGES, *OTHERS], NOT_PERMITTED, NO_SUCH_CALL, decoy=decoy) == []
    assert got_through(GONE, NO_SUCH_CALL) == []
    assert got_through([*READS, *DESCRIPTORS], DENIED, INVALID, NO_DESCRIPTOR, NO_SUCH_CALL) == []


def test_the_filter_alone_keeps_native_code_from_changing_files_and_from_processes(
    monkeypatch: pytest.MonkeyPatch, decoy: Path
) -> None:
    need("system-call filter")
    edited(monkeypatch, *BROKEN_OUT, OPENING_FILES, WITHOUT_LANDLOCK)
    assert got_through([*CHANGES, *OTHERS], NOT_PERMITTED, NO_SUCH_CALL, decoy=decoy) == []
    assert got_through(GONE, NO_SUCH_CALL) == []
    # What the filter does not hold, Landlock and the limit of files do.
    assert got_through(READS[:1], NOT_PERMITTED, NO_SUCH_CALL) == [f"ValueError: [({READS[0]!r}, 0)]"]


def test_landlock_alone_keeps_native_code_to_the_library_of_python(
    monkeypatch: pytest.MonkeyPatch, decoy: Path
) -> None:
    need("Landlock")
    edited(monkeypatch, *BROKEN_OUT, OPENING_FILES, WITHOUT_FILTER)
    making = [text for text in CHANGES if text.startswith(("open", "creat", "mk", "unlink", "rm", "sym"))]
    assert got_through([*READS, *making], DENIED, decoy=decoy) == []
    assert len(got_through([f"open({os.__file__.encode()!r}, 0)"], DENIED)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's calls are Linux'")
def test_the_limit_of_files_alone_keeps_native_code_from_opening_any(
    monkeypatch: pytest.MonkeyPatch, decoy: Path
) -> None:
    edited(monkeypatch, *BROKEN_OUT, WITHOUT_FILTER, WITHOUT_LANDLOCK)
    opening = [*READS, *DESCRIPTORS, *(text for text in CHANGES if text.startswith(("open(b'{", "creat", "memfd")))]
    assert got_through([*opening, "socket(2, 1, 0)"], INVALID, NO_DESCRIPTOR, decoy=decoy) == []
    more = "__import__('struct').pack('QQ', 64, 64)"
    assert got_through([f"setrlimit(7, {more})", f"prlimit(0, 7, {more}, None)"], NOT_PERMITTED) == []


def test_memory_is_bounded_without_the_audit_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    edited(monkeypatch, BROKEN_OUT[0])
    assert run_tests(RIGHT, "after", TESTS, limits=LIMITS).passed
    assert not run_tests(f"kept = [0] * (1 << 33)\n{RIGHT}", "after", TESTS, limits=LIMITS).passed


def test_what_a_system_lacks_is_told_with_what_confines(monkeypatch: pytest.MonkeyPatch) -> None:
    edited(
        monkeypatch,
        ("landlock", "    version = _call(", "    raise OSError(38, 'no such call')\n    version = _call("),
    )
    told = check_sandbox(LIMITS)
    assert told.startswith("no file opened after the start, ")
    assert "not available here: " in told
    assert "Landlock" in told.partition("not available here: ")[2]


def test_both_processors_have_a_filter_whose_jumps_stay_inside() -> None:
    for column, architecture in sandbox_calls.ARCHITECTURES.values():
        lines = sandbox_calls.program(column, architecture)
        assert all(place + 1 + max(line[1:3]) < len(lines) for place, line in enumerate(lines[:-2]))
        assert all(0 <= part <= 255 for line in lines for part in line[1:3])
        numbers = [n[column] for n in sandbox_calls.ALLOWED.values() if n[column] is not None]
        assert len(numbers) == len(set(numbers))
