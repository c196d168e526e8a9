"""What the process is started with - variables, streams, the folder it stands in - ends in a result or in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.places import ROOT
from unierase_cli.cli.app import app
from unierase_cli.contracts import UserError
from unierase_cli.store.environment import check_processes
from unierase_cli.store.refusals import as_user_error

COMMAND = f"{sys.executable} -m unierase_cli"
LISTED = "ls protocols"
MISTAKE = "run model=mni"


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of bash whose exit code is that of the command, the first in a pipe."""
    names = ("COLUMNS", "WORLD_SIZE", "RANK", "UNIERASE_TRACEBACK")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{COMMAND} {LISTED} >&-", 0),
        (f"{COMMAND} {LISTED} --json >&-", 0),
        (f"{COMMAND} {LISTED} <&- >&- 2>&-", 0),
        (f"{COMMAND} {MISTAKE} 2>&-", 2),
        (f"{COMMAND} {MISTAKE} >&-", 2),
        (f"{COMMAND} {LISTED} --json | head -c 0", 1),
        (f"{COMMAND} --help | head -c 0", 1),
    ],
)
def test_a_stream_that_is_closed_or_that_nobody_reads_costs_what_it_would_have_told_alone(
    tmp_path: Path, line: str, code: int
) -> None:
    done = shell(line, tmp_path)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    # head may have read before it closed its end.
    assert done.returncode in ({0, 1} if "head" in line else {code})
    assert ("error: model=mni" in done.stderr) == (MISTAKE in line and "2>&-" not in line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [f"{LISTED} --json", "--version"])
def test_what_cannot_be_written_is_told(tmp_path: Path, words: str) -> None:
    done = shell(f"{COMMAND} {words} >/dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2


def test_a_folder_that_was_deleted_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"rmdir {gone}; {COMMAND} {LISTED}", gone)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the current folder no longer exists",
        "  try: change to another one: cd FOLDER",
    ]


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "abc", "LINES": "x", "OMP_NUM_THREADS": "1"},
        {"LC_ALL": "C", "LANG": "C", "TERM": "", "NO_COLOR": ""},
        {"PYTHONIOENCODING": "ascii", "TMPDIR": "/no/such/folder", "OMP_NUM_THREADS": "abc"},
    ],
    ids=["sizes", "plain", "ascii"],
)
def test_a_variable_that_means_nothing_changes_no_result(tmp_path: Path, variables: dict[str, str]) -> None:
    listed = shell(f"{COMMAND} {LISTED} --json", tmp_path, **variables)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert {row["name"] for row in json.loads(listed.stdout)} >= {"full", "mini"}
    assert shell(f"{COMMAND} {LISTED}", tmp_path, **variables).returncode == 0


@pytest.mark.parametrize("columns", ["abc", "0", "-5", "9" * 30, "\u0663\u0663", ""])
def test_a_width_that_is_none_is_that_of_a_file(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    # Undone at once: pytest reads the same variable for its own lines.
    with monkeypatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        usual = CliRunner().invoke(app, LISTED.split(), prog_name="unierase").stderr
        patch.setenv("COLUMNS", columns)
        asked = CliRunner().invoke(app, LISTED.split(), prog_name="unierase").stderr
    assert asked == usual
    assert max(map(len, usual.splitlines())) == 140


TWO = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "the environment's WORLD_SIZE=2 says that other processes take part, but RANK is not set"),
        ({"MASTER_ADDR": None}, "the environment's WORLD_SIZE=2 says that other processes take part, but MASTER_ADDR is not"),
        ({"RANK": "x"}, "the environment's RANK=x is not a whole number of at least 0"),
        ({"RANK": "-1"}, "the environment's RANK=-1 is not a whole number of at least 0"),
        ({"RANK": "2"}, "the environment's RANK=2 is not below its WORLD_SIZE=2"),
        ({"WORLD_SIZE": None}, "the environment's RANK=1 is not below its WORLD_SIZE=1"),
        ({"WORLD_SIZE": "0"}, "the environment's WORLD_SIZE=0 is not a number of processes"),
        ({"WORLD_SIZE": ""}, "the environment's WORLD_SIZE= is not a whole number of at least 0"),
        ({"LOCAL_RANK": "1.5"}, "the environment's LOCAL_RANK=1.5 is not a whole number of at least 0"),
        ({"LOCAL_RANK": "9" * 5000}, "the environment's LOCAL_RANK=9999"),
    ],
)  # fmt: skip
def test_an_environment_that_no_launcher_makes_is_told(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    for name, value in {**TWO, **changes}.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as raised:
        check_processes()
    assert raised.value.message.startswith(message)
    result = CliRunner().invoke(app, LISTED.split(), prog_name="unierase")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 2


def test_one_process_and_one_of_a_launchers_two_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TWO:
        monkeypatch.delenv(name, raising=False)
    check_processes()
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    check_processes()


def test_nobodys_home_and_no_place_for_temporary_files_are_told() -> None:
    for call in (lambda: Path("~nobody-of-this-name/x").expanduser(),):
        with pytest.raises(RuntimeError) as raised:
            call()
        found = as_user_error(raised.value)
        assert found is not None
        assert "home folder" in found.message
    nowhere = FileNotFoundError(2, "No usable temporary directory found in ['/a', '/b']")
    found = as_user_error(nowhere)
    assert found is not None
    assert "TMPDIR" in found.hint
