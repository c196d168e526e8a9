"""Generated code on trial: right code passes, and nothing that code may try ends in anything but a fail within the limits."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from tests.helpers.trials import LIMITS, RIGHT, TESTS
from unierase_cli.contracts import UserError
from unierase_cli.inference.sandbox import sandbox
from unierase_cli.inference.sandbox import values as sandbox_values
from unierase_cli.inference.sandbox.sandbox import Limits, check_sandbox, run_tests

# Ways out. Each gives the right answer, should it get that far.
ESCAPES = {
    "an endless loop": "while True: pass",
    "an endless loop when called": "def after(n):\n    while True: pass",
    "a sleep": "import time\ntime.sleep(1000)",
    "processes without end": "import os\nwhile True: os.fork()",
    "processes by the back door": "import _posixsubprocess",
    "a thread": "import threading\nthreading.Thread(target=print).start()",
    "all memory": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "memory at once": "kept = [0] * (1 << 33)",
    "recursion without end": "def after(n): return after(n)",
    "a file elsewhere": "open('/tmp/unierase-was-here', 'w').write('x')",
    "a file above": "open('../unierase-was-here', 'w').write('x')",
    "a file by its descriptor": "import os\nos.open('/tmp/unierase-was-here', os.O_CREAT | os.O_WRONLY)",
    "a file in its own folder": "open('small', 'w').write('x')",
    "the list of users": "open('/etc/passwd').read()",
    "the list of users, quietly": "try:\n    open('/etc/passwd').read()\nexcept BaseException:\n    pass",
    "the home folder": "import os\nos.listdir(os.path.expanduser('~') if os.path.expanduser('~') != '~' else '/root')",
    "another process's memory": "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')",
    "a path that pretends": "class Path(str):\n    def startswith(self, *a): return True\nopen(Path('/etc/passwd'))",
    "built-ins that lie": "import builtins\nbuiltins.type = lambda x: bytes\nbuiltins.str = bytes\nopen('/etc/passwd')",
    "an open descriptor": "import io\nio.FileIO(0)",
    "a socket": "import socket\nsocket.socket()",
    "a socket by the back door": "import _socket\n_socket.socket()",
    "an exit before the tests": "import sys\nsys.exit(0)",
    "an exit when called": "import sys\ndef after(n): sys.exit(0)",
    "a hard exit": "import os\nos._exit(0)",
    "a hard exit when called": "import os\ndef after(n): os._exit(0)",
    "its parent's end": "import os\nos.kill(os.getppid(), 9)",
    "its group's end": "import os\nos.killpg(0, 9)",
    "a shell": "import os\nos.system('true')",
    "a sub-process": "import subprocess\nsubprocess.run(['true'])",
    "another program": "import os\nos.execv('/bin/true', ['true'])",
    "native code": "import ctypes\nctypes.string_at(0)",
    "native code by the back door": "import _ctypes",
    "a look for the hook": "import gc\nfor thing in gc.get_objects(): pass",
    "a hook of its own": "import sys\nsys.addaudithook(print)",
    "a tracer": "import sys\nsys.settrace(print)",
    "code made by hand": "after = (lambda n: n + 1)\nafter.__code__.replace(co_stacksize=0)\ntype(after.__code__)(*[0] * 18)",
    "the folder above": "import shutil\nshutil.rmtree('..')",
    "a neighbour's folder": "import os\nos.rmdir('../tests')",
    "a link to elsewhere": "import os\nos.symlink('/etc', 'link')\nopen('link/passwd')",
    "another folder": "import os\nos.chdir('/')",
    "a signal handler": "import signal\nsignal.signal(signal.SIGALRM, print)",
    "a signal handler by the back door": "import sys\nsys.modules['_signal'].signal(14, print)",
    "a pipe with a name": "import os\nos.mkfifo('/tmp/unierase-was-here')",
    "a file as a node": "import os\nos.mknod('/tmp/unierase-was-here', 0o100600)",
    "a folder": "import os\nos.mkdir('made')",
    "the size of a file": "import os\nos.stat('/etc/passwd')",
    "whether a file is there": "import os\nassert os.path.exists('/etc/passwd') or os.path.lexists('/etc/passwd')",
    "where its Python is": "import os\nos.readlink('/proc/self/exe')",
    "its parent": "import os\nos.getppid()",
    "its processors": "import os\nos.sched_getaffinity(0)",
    "another priority": "import os\nos.nice(5)",
    "pipes that are closed": "import os\nos.closerange(0, 16)",
    "native code by a name with a dot": """
import sys, _imp
from importlib.machinery import ModuleSpec
folder = sys.modules['math'].__spec__.origin.rpartition('/')[0]
end = sys.modules['math'].__spec__.origin.partition('/math')[2]
_imp.exec_dynamic(_imp.create_dynamic(ModuleSpec("x._ctypes", None, origin=f"{folder}/_ctypes{end}")))
""",
    "native code by its loader": """
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
path = sys.modules['math'].__spec__.origin.replace('/math', '/_ctypes')
ExtensionFileLoader('mathematics', path).create_module(ModuleSpec('mathematics', None, origin=path))
""",
    "the hook's own instructions": """
import sys, _imp, dis
from importlib.machinery import ModuleSpec
origin = sys.modules['math'].__spec__.origin.replace('/math', '/_ctypes')
C = _imp.create_dynamic(ModuleSpec("x._ctypes", None, origin=origin)); _imp.exec_dynamic(C)
class L(C._SimpleCData): _type_ = "L"
class B(C._SimpleCData): _type_ = "B"
class U(C.Union): _fields_ = [("a", L), ("p", C.POINTER(B))]
guard = sys.modules['unierase_cli.inference.sandbox.guard'].guard
hook = [c for c in guard.__code__.co_consts if hasattr(c, "co_code")][-1]
u = U(); u.a = id(hook) + type(hook).__basicsize__
for i, b in enumerate([dis.opmap["LOAD_CONST"], hook.co_consts.index(None), dis.opmap["RETURN_VALUE"], 0]): u.p[i] = b
open("/tmp/unierase-was-here", "w").write(open("/etc/passwd").read())
""",
    "a system module made again": """
import _imp
from importlib.machinery import ModuleSpec
posix = _imp.create_builtin(ModuleSpec("posix", None)); _imp.exec_builtin(posix)
posix.mkfifo("/tmp/unierase-was-here")
""",
    "a system module from its loader": """
import sys
from importlib.machinery import BuiltinImporter
del sys.modules["posix"]
BuiltinImporter.load_module("posix").stat("/etc/passwd")
""",
    "a system function from a set of them": """
import os
[f for f in os.supports_dir_fd | os.supports_fd if f.__name__ == "mkfifo"][0]("/tmp/unierase-was-here")
""",
    "a system function by another module's name for it": "import inspect\ninspect.os.stat('/etc/passwd')",
    "search paths of its own": """
import sys
from importlib.machinery import PathFinder
sys.meta_path.append(PathFinder); sys.path[:] = ['/etc', sys.modules['math'].__spec__.origin.rpartition('/')[0]]
import _posixshmem
""",
    "a loader that reads": """
from importlib.machinery import SourceFileLoader
SourceFileLoader('x', '/etc/passwd').get_data('/etc/passwd')
""",
    "lines of a file, kept": "import linecache\nassert linecache.getlines('/etc/passwd')",
    "bytes that become code": "import marshal\nmarshal.loads(marshal.dumps((lambda: 0).__code__))",
    "a limit that is raised": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))",
    "the refusal taken back": """
import sys
guard = sys.modules['unierase_cli.inference.sandbox.guard']
guard.FORBIDDEN, guard.NEVER_IMPORTED, guard.STAY = (), frozenset(), {}
guard.refused.__code__ = (lambda *a, **k: None).__code__
guard.preload()
open('/etc/passwd').read()
""",
}  # fmt: skip
LEFT = Path("/tmp/unierase-was-here")
# Ways to be called right without being right. None gives the right answer.
LIES = {
    "the word, guessed": 'def after(n):\n    print(\'{"word": ""}\', flush=True)\n    return 0',
    "the word, on every descriptor": (
        "import sys\nwrite = sys.modules['unierase_cli.inference.sandbox.values'].write\ndef after(n):\n"
        '    for place in range(16):\n        try: write(place, b\'{"word": ""}\\n\')\n'
        "        except OSError: pass\n    return 0"
    ),
    "an answer that equals everything": "class Same(int):\n    def __eq__(self, other): return True\ndef after(n): return Same(0)",
    "an answer of another kind": "class Same:\n    def __eq__(self, other): return True\ndef after(n): return Same()",
    "other tests": "import sys\nsys.modules['tests'] = sys\ncheck = lambda candidate: None\ndef after(n): return 0",
    "no assertions": "import builtins\nbuiltins.AssertionError = None\ndef after(n): return 0",
    "an error that calls itself right": (
        "class Fine(BaseException):\n    def __str__(self): raise self\ndef after(n): raise Fine()"
    ),
    "a glance at the callers": (
        "import sys\ndef after(n):\n    frame = sys._getframe()\n    while frame:\n        frame.f_globals.update(word=0)\n"
        "        frame = frame.f_back\n    return 0"
    ),
    "too much to say": "def after(n): return 'x' * (16 << 20)",
    "an answer within itself": "def after(n):\n    kept = []\n    kept.append(kept)\n    return kept",
    "no function": "before = 1",
    "no program": "I don't know.",
    "nothing": "",
}


def with_a_right_answer(attempt: str) -> str:
    return attempt if "def after" in attempt else f"{attempt}\n{RIGHT}"


def test_right_code_passes_and_wrong_code_fails_with_the_reason() -> None:
    assert run_tests(RIGHT, "after", TESTS, limits=LIMITS).passed
    wrong = run_tests("def after(n):\n    return n\n", "after", TESTS, limits=LIMITS)
    assert (wrong.passed, wrong.reason) == (False, "AssertionError: ")
    broken = run_tests("def after(n):\n    return m\n", "after", TESTS, limits=LIMITS)
    assert "name 'm' is not defined" in broken.reason


@pytest.mark.parametrize("attempt", list(ESCAPES))
def test_no_way_out_is_a_pass_and_none_takes_longer_than_allowed(attempt: str) -> None:
    started = time.monotonic()
    verdict = run_tests(with_a_right_answer(ESCAPES[attempt]), "after", TESTS, limits=LIMITS)
    assert not verdict.passed, f"{attempt} got through"
    assert verdict.reason
    assert verdict.seconds <= LIMITS.seconds + 0.5
    assert time.monotonic() - started < 30
    assert not LEFT.exists()


@pytest.mark.parametrize("lie", list(LIES))
def test_only_right_answers_pass(lie: str) -> None:
    assert not run_tests(LIES[lie], "after", TESTS, limits=LIMITS).passed


def test_code_sees_no_environment_no_input_and_no_packages() -> None:
    seen = (
        "import os, sys\ndef after(n):\n    try: import rich\n    except ImportError: pass\n    else: return 'rich'\n"
        "    return str([sorted(set(os.environ) - {'LC_CTYPE'}), sys.argv, sys.path, sys.stdin.read()])"
    )
    tests = "def check(candidate):\n    assert candidate(0) == \"[[], ['-c'], [], '']\", candidate(0)\n"
    verdict = run_tests(seen, "after", tests, limits=LIMITS)
    assert verdict.passed, verdict.reason


def test_programs_may_use_the_harmless_part_of_the_standard_library() -> None:
    code = (
        "import collections.abc, dataclasses, datetime, decimal, hashlib, os, traceback, unicodedata\n"
        "@dataclasses.dataclass\nclass Pair:\n    a: int = 1\n"
        "def after(n):\n    try: 1 / 0\n    except ZeroDivisionError: traceback.format_exc()\n"
        "    assert datetime.datetime.strptime('2020-01-02', '%Y-%m-%d').day == 2\n"
        "    assert hashlib.md5(b'').hexdigest() and 'a'.encode('utf-16') and not os.path.exists('x')\n"
        "    if n is 10**30: pass\n    return n + Pair().a\n"
    )
    verdict = run_tests(code, "after", TESTS, limits=LIMITS)
    assert verdict.passed, verdict.reason


def test_the_folder_of_a_program_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_tests(RIGHT, "after", TESTS, limits=LIMITS).passed
    assert list(tmp_path.iterdir()) == []


def test_no_process_is_left_behind() -> None:
    code = (
        "import os\nclass Last:\n    def __del__(self):\n        while True: pass\nlast = Last()\n"
        "def after(n): return os.getpid()"
    )
    tests = "def check(candidate):\n    raise ValueError(candidate(0))\n"
    number = int(run_tests(code, "after", tests, limits=LIMITS).reason.removeprefix("ValueError: "))
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_what_code_prints_is_kept_nowhere() -> None:
    code = "import sys\nprint('x' * (8 << 20))\nsys.stderr.write('y' * (8 << 20))\n" + RIGHT
    verdict = run_tests(code, "after", TESTS, limits=LIMITS)
    assert (verdict.passed, verdict.reason) == (True, "")


def test_tests_without_end_are_a_fail_in_time() -> None:
    verdict = run_tests(
        RIGHT, "after", "def check(candidate):\n    while True: candidate(1)\n", limits=Limits(1.0, 256)
    )
    assert (verdict.passed, verdict.reason) == (False, "not done after 1 s")


def test_processes_that_do_not_start_say_nothing_about_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="do not start.*code_memory_mib"):
        run_tests(RIGHT, "after", TESTS, limits=Limits(1.0, 1))
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.3)
    monkeypatch.setattr(sandbox, "_source", lambda name: "import time\ntime.sleep(1000)")
    started = time.monotonic()
    with pytest.raises(UserError, match="do not start"):
        run_tests(RIGHT, "after", TESTS, limits=LIMITS)
    assert time.monotonic() - started < 10


def test_an_interpreter_that_tells_nothing_apart_is_found_before_any_code_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "run_tests", lambda *a, **k: sandbox.Verdict(True, "", 0.0))
    with pytest.raises(UserError, match="cannot be run here"):
        check_sandbox(LIMITS)


VALUES = [
    None, True, 0, -(10**5000), 1.5, float("inf"), 2 - 1j, "\ud800 é", b"\x00", [], (1, [2, (3,)]), {1, 2}, frozenset({"a"}),
    {"a": {(1, 2): [None]}, 3: {4}},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(type(value).__name__))
def test_plain_values_travel_unchanged(value: object) -> None:
    back = sandbox_values.unpack(json.loads(json.dumps(sandbox_values.pack(value))))
    assert back == value
    assert type(back) is type(value)


def test_other_values_do_not_travel() -> None:
    with pytest.raises(TypeError, match="cannot be passed"):
        sandbox_values.pack([object()])


@pytest.mark.slow
def test_the_published_solutions_of_human_eval_pass(shared: Path) -> None:
    lines = (shared / "data" / "general" / "human_eval.jsonl").read_text("utf-8").splitlines()
    for row in map(json.loads, lines):
        code = row["prompt"] + row["canonical_solution"]
        verdict = run_tests(code, row["entry_point"], row["test"], prompt=row["prompt"], limits=Limits(10.0))
        assert verdict.passed, f"{row['task_id']}: {verdict.reason}"
