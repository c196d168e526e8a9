"""Folders for the time being: gone when the process ends, however it ends, and nobody else's is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from unierase_cli import signals
from unierase_cli.temporary import temporary_folder

# What starts the tests may have had signals ignored, which programs inherit (nohup, a shell's background job).
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from unierase_cli.temporary import temporary_folder
with temporary_folder("code") as folder:
    (folder / "solution").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def started(place: Path, program: str = PROGRAM) -> tuple[subprocess.Popen[str], Path]:
    environment = {**os.environ, "TMPDIR": str(place)}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_that_is_told_to_end_removes_its_folder_and_ends_of_that_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    process, folder = started(tmp_path)
    assert folder.is_dir()
    process.send_signal(number)
    assert process.wait(60) == -number
    assert list(tmp_path.iterdir()) == []


def test_the_next_use_removes_what_a_killed_process_left_and_nothing_that_lives(tmp_path: Path) -> None:
    killed, left = started(tmp_path)
    living, held = started(tmp_path)
    try:
        killed.kill()
        killed.wait(60)
        assert left.is_dir()
        with temporary_folder("code") as own:
            assert sorted(tmp_path.iterdir()) == sorted([held, own])
        with temporary_folder("code"), temporary_folder("code") as second:
            assert second.is_dir()
        assert list(tmp_path.iterdir()) == [held]
    finally:
        living.kill()
        living.wait(60)


def test_only_ones_own_folders_are_removed(tmp_path: Path) -> None:
    user = os.geteuid()
    others = [
        "unierase-code-backup", f"unierase-code-{user}-notes-of-mine", f"unierase-code-{user + 1}-abcdefgh", "unierase-abcdefgh",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / f"unierase-code-{user}-12345678").write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"unierase-code-{user}-87654321").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.iterdir())
    with temporary_folder("code"):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_what_goes_wrong_inside_removes_the_folder_and_signals_are_as_before(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with pytest.raises(ValueError, match="inside"), temporary_folder("code"):
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_a_signal_that_is_ignored_stays_ignored_and_a_thread_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with temporary_folder("code"):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a thread may set no handler"))
    thread = threading.Thread(target=lambda: temporary_folder("code").__enter__())
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
