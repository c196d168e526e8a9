"""A folder that the user names is written whole or not at all, and what is the user's own stays."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.jobs import HEAR
from tests.helpers.patched import edits, experiment, finished, model_folder, unedited
from tests.helpers.places import ROOT
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import UserError
from unierase_cli.store.new_folder import check_free, new_folder
from unierase_cli.store.whole import write_text

# Export in every kind, apply and revert; RUN is a finished run, EDITED an applied folder of it.
COMMANDS = {
    "model": ("export", "RUN", "OUT"),
    "patch": ("export", "RUN", "OUT", "--as", "patch"),
    "lora": ("export", "RUN", "OUT", "--as", "lora"),
    "apply": ("patch", "apply", "MODEL", "RUN", "OUT"),
    "revert": ("patch", "revert", "EDITED", "RUN", "OUT", "--base", "MODEL"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    import torch

    root = tmp_path_factory.mktemp("made")
    config = experiment(model_folder("llama", root / "model", torch.bfloat16), root / "outputs")
    finished(config, edits(unedited(config)))
    called(root, "apply", root / "edited")
    return root, config


def called(root: Path, kind: str, out: str | Path) -> Any:
    places = {"RUN": "run@v001", "OUT": str(out), "MODEL": str(root / "model"), "EDITED": str(root / "edited")}
    words = [places.get(word, word) for word in COMMANDS[kind]]
    return CliRunner().invoke(app, [*words, "--outputs", str(root / "outputs")], prog_name="unierase")


def everything(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder, by path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


def write(destination: Path, *names: str) -> None:
    with new_folder(destination) as folder:
        for name in names or ("weights", "record"):
            write_text(folder / name, name)


@pytest.mark.parametrize("kind", COMMANDS)
def test_what_lies_beside_the_destination_stays(kind: str, made: tuple[Path, Experiment], tmp_path: Path) -> None:
    for name in ("out.part", ".out.part", "out.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    before = everything(tmp_path)
    result = called(made[0], kind, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    shutil.rmtree(tmp_path / "out")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", COMMANDS)
def test_an_empty_folder_is_filled_and_stays_the_same_folder(
    kind: str, made: tuple[Path, Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir(mode=0o750)
    before = (tmp_path / "out").stat()
    monkeypatch.chdir(tmp_path / "out")
    result = called(made[0], kind, ".")
    assert result.exit_code == 0, result.stderr
    after = (tmp_path / "out").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_disk_that_is_full_is_one_line_and_nothing_is_left(
    kind: str, made: tuple[Path, Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, target: Any = None, folder: Path | None = None) -> None:
        place = folder or Path(target or source)
        (place / "half" if folder else place).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source) if folder is None else None)

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("unierase_cli.models.files.save_folder", full)
    monkeypatch.setattr("unierase_cli.delivery.leaving.write_json", lambda path, record: full(path))
    result = called(made[0], kind, tmp_path / "new" / "out")
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith(("error:", "  try:"))] == [
        f"error: the disk is full ({tmp_path / 'new' / 'out'})",
        "  try: free some space; nothing was kept, run the same command again",
    ]
    assert os.listdir(tmp_path) == []


def test_what_a_library_in_rust_says_of_a_full_disk_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the disk is full") as told, new_folder(tmp_path / "out"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(tmp_path / "out") in told.value.message
    assert os.listdir(tmp_path) == []


def test_an_error_of_another_kind_goes_on_as_it_is_and_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "a" / "b") as folder:
            (folder / "half").write_text("half")
            (tmp_path.parent / "somewhere else").read_text()

    with pytest.raises(FileNotFoundError):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_parent_that_is_missing_is_made_and_one_that_is_there_stays(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out")
    assert sorted(os.listdir(tmp_path / "a" / "b" / "out")) == ["record", "weights"]
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a" / "c" / "d" / "out"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "a") == ["b"]


def test_links_and_dots_lead_where_they_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "inner", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("later")
    write(tmp_path / "link")
    write(tmp_path / "dangling")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert sorted(os.listdir(tmp_path / "empty")) == sorted(os.listdir(tmp_path / "later")) == ["record", "weights"]
    monkeypatch.chdir(tmp_path / "work")
    write(Path("x/.."))
    assert sorted(os.listdir(tmp_path / "work")) == ["record", "weights"]
    with pytest.raises(UserError, match=r"^x/\.\. exists and is not empty - name a new folder$"):
        write(Path("x/.."))


def test_what_is_there_already_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    before = everything(tmp_path / "full")
    for name, why in (
        ("file", "exists and is not a folder"),
        ("file/out", "file is not a folder"),
        ("full", "exists and is not empty"),
        ("circle", "exists and is not a folder"),
    ):
        with pytest.raises(UserError, match=why) as told:
            check_free(tmp_path / name)
        assert told.value.hint == "name a new folder"
        with pytest.raises(UserError, match=why):
            write(tmp_path / name)
    assert everything(tmp_path / "full") == before


def test_of_two_that_write_to_one_place_the_first_is_whole_and_the_other_is_told(tmp_path: Path) -> None:
    def be_slow() -> None:
        with new_folder(tmp_path / "out") as slow:
            (slow / "slow").write_text("slow")
            write(tmp_path / "out", "quick")

    with pytest.raises(UserError, match="out was created by somebody else meanwhile - name a new folder"):
        be_slow()
    assert everything(tmp_path) == {"out": None, "out/quick": b"quick"}
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty"), pytest.raises(UserError, match="empty is being written to"):
        write(tmp_path / "empty")
    with pytest.raises(UserError, match="exists and is not empty"), new_folder(tmp_path / "empty"):
        (tmp_path / "empty" / "mine").write_text("mine")
    assert os.listdir(tmp_path / "empty") == ["mine"]


def test_a_folder_that_may_not_be_written_to_is_refused_with_a_hint_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        with pytest.raises(UserError, match=f"cannot be written: you may not write to {tmp_path} - name a new folder"):
            check_free(tmp_path / "new" / "out")
    monkeypatch.setattr(Path, "mkdir", refusing(errno.EROFS))
    with pytest.raises(UserError, match=r"the file system is read-only \(.*/out\) - name a new folder"):
        write(tmp_path / "out")


def refusing(number: int) -> Callable[..., Any]:
    def refused(path: Path, *given: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    return refused


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_asked_to_end_removes_what_it_had_written(
    kind: signal.Signals, there: bool, tmp_path: Path
) -> None:
    if there:
        (tmp_path / "out").mkdir()
    script = (
        f"{HEAR}import sys, time\nfrom pathlib import Path\nfrom unierase_cli.store.new_folder import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(kind)
    _, said = process.communicate(timeout=20)
    assert f"KeyboardInterrupt: nothing was written to {tmp_path / 'out'}" in said
    assert everything(tmp_path) == ({"out": None} if there else {})


def test_an_interrupted_export_does_not_promise_to_go_on(
    made: tuple[Path, Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("unierase_cli.delivery.leaving.write_json", interrupted)
    result = called(made[0], "patch", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == f"interrupted; nothing was written to {tmp_path / 'out'}"
    assert os.listdir(tmp_path) == []


def test_an_interruption_while_files_are_moved_into_a_folder_leaves_it_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    rename, seen = Path.rename, []

    def second_fails(path: Path, target: Path) -> Path:
        seen.append(path)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "first", "second", "third")
    assert everything(tmp_path) == {"out": None}


def test_the_record_which_is_written_last_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    order, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: order.append(target.name) or rename(path, target))
    with new_folder(tmp_path / "out") as folder:
        for name in ("weights", "card", "a record"):
            (folder / name).write_text(name)
            time.sleep(0.01)
    assert order == ["weights", "card", "a record"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_mount_point_and_a_small_disk(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("no mount is allowed here")
    try:
        with pytest.raises(UserError, match="the disk is full"), new_folder(mount) as folder:
            (folder / "large").write_bytes(b"x" * 200_000)
        assert os.listdir(mount) == []
        write(mount)
        assert sorted(os.listdir(mount)) == ["record", "weights"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_is_written_under_a_name_that_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.json.part").write_text("mine")
    write_text(tmp_path / "table.json", "{}")
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="table.json") as told:
        write_text(tmp_path / "table.json", "[]")
    assert isinstance(told.value.filename, str)
    monkeypatch.setattr(Path, "replace", replace)
    write_text(tmp_path / ("n" * 250), "a name of 250 bytes")
    assert everything(tmp_path) == {"n" * 250: b"a name of 250 bytes", "table.json": b"{}", "table.json.part": b"mine"}
