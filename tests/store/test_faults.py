"""What goes wrong around the store: deaths, full and read-only disks, files that vanish or change, clocks, other processes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.dying import Deadline, fork, payload
from tests.helpers.stand_ins import stand_in
from unierase_cli.cli import session
from unierase_cli.cli.app import app
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import RunConfig
from unierase_cli.contracts import SilentReporter, UserError
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.store.artefacts import Store
from unierase_cli.store.json_text import write_json
from unierase_cli.store.jsonl import append_jsonl, drop_torn_tail, read_jsonl, write_jsonl
from unierase_cli.store.refusals import as_user_error, is_out_of_memory
from unierase_cli.store.whole import discard

KEY = "a" * 64
ROWS = [{"row": number, "text": "x" * 40} for number in range(3)]
Work = Callable[[StageContext], None]


def save_version(root: Path, fresh: bool = False) -> None:
    """A version with a file of each kind; rows that are there already are not written again."""
    store = Store(root)
    if not fresh and store.find("erase", KEY) is not None:
        return
    draft = store.draft("erase", "demo", KEY, fresh=fresh)
    path = draft.path / "rows.jsonl"
    drop_torn_tail(path)
    for row in ROWS[len(read_jsonl(path)) if path.exists() else 0 :]:
        append_jsonl(path, [row])
    write_json(draft.path / "plan.json", ROWS)
    write_jsonl(draft.path / "steps.jsonl", ROWS)
    draft.complete({"stage": "erase", "key": KEY, "finished": 1.0})


def operations(root: Path, work: Callable[[], None]) -> int:
    """How many operations on files ``work`` makes."""

    def counted() -> None:
        deadline = Deadline(root, None)
        deadline.start()
        work()
        root.with_name("count").write_text(str(deadline.count))

    assert fork(counted) == 0
    return int(root.with_name("count").read_text())


def die(root: Path, at: int, torn: bool, work: Callable[[], None]) -> int:
    def doomed() -> None:
        Deadline(root, at, torn).start()
        work()

    return fork(doomed)


@pytest.mark.parametrize("torn", [False, True])
def test_a_death_at_any_operation_is_followed_by_the_same_version_and_nothing_else(tmp_path: Path, torn: bool) -> None:
    whole = tmp_path / "whole"
    count = operations(whole, partial(save_version, whole))
    wanted = payload(whole / "erase" / "demo" / "v001")
    assert count > 15
    for at in range(1, count + 1):
        root = tmp_path / f"{at}"
        assert die(root, at, torn, partial(save_version, root)) == -signal.SIGKILL
        assert all(payload(artefact.path) == wanted for artefact in Store(root).list())
        save_version(root)
        assert [path.name for path in (root / "erase" / "demo").iterdir()] == ["v001"]
        assert payload(root / "erase" / "demo" / "v001") == wanted


def test_a_death_while_an_interrupted_version_is_thrown_away_leaves_nothing_of_it(tmp_path: Path) -> None:
    def interrupted(root: Path) -> None:
        draft = Store(root).draft("erase", "demo", KEY)
        append_jsonl(draft.path / "rows.jsonl", [{"row": 0, "text": "of another run"}])

    whole = tmp_path / "whole"
    interrupted(whole)
    count = operations(whole, partial(save_version, whole, fresh=True))
    for at in range(1, count + 1):
        root = tmp_path / f"{at}"
        interrupted(root)
        assert die(root, at, False, partial(save_version, root, fresh=True)) == -signal.SIGKILL
        save_version(root, fresh=True)
        newest = Store(root).find("erase", KEY)
        assert newest is not None
        assert read_jsonl(newest.path / "rows.jsonl") == ROWS
        assert not [path for path in (root / "erase" / "demo").iterdir() if path.name.startswith(".")]


def test_what_writers_that_were_killed_left_in_a_version_is_gone_once_it_is_complete(tmp_path: Path) -> None:
    draft = Store(tmp_path).draft("erase", "demo", KEY)
    (draft.path / "training-000").mkdir()
    for name in (".tmpXk2Q9z", "patch-000.safetensors.part", "training-000/checkpoint-000004.safetensors.part"):
        (draft.path / name).write_bytes(b"half")
    (draft.path / "patch-000.json").write_text("{}")
    made = draft.complete({"stage": "erase", "key": KEY})
    assert sorted(path.name for path in made.path.iterdir()) == ["manifest.json", "patch-000.json", "training-000"]
    assert list(made.manifest["files"]) == ["patch-000.json"]


def test_what_is_taken_up_again_does_not_hold_the_halves_of_files_from_before(tmp_path: Path) -> None:
    left = Store(tmp_path).draft("erase", "demo", KEY).path / ".patch-000.safetensors.0123456789abcdef.part"
    left.write_bytes(b"half")
    assert Store(tmp_path).draft("erase", "demo", KEY).resuming
    assert not left.exists()


class Stages:
    """``train_token``, and ``erase`` which needs it; ``work`` is what erase does, and ``runs`` how often each ran."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.resumed: list[bool] = []
        self.work: Work = lambda context: None

    def load(self, name: str) -> Any:
        def run(context: StageContext) -> dict[str, Any]:
            write_json(context.directory / "payload.json", {"made by": name})
            if name == "erase":
                self.resumed.append(context.resuming)
                self.work(context)
            self.runs.append(name)
            return {}

        return stand_in(name, run)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages()
    monkeypatch.setattr(pipeline_module, "load_stage", made.load)
    return made


class Heard(SilentReporter):
    """Remembers the notes, and does something at one of them."""

    def __init__(self, at: str = "", do: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.at, self.do, self.heard = at, do, list[str]()

    def note(self, text: str) -> None:
        self.heard.append(text)
        if self.at and self.at in text:
            self.do()


def pipeline(root: Path, reporter: SilentReporter | None = None, **run: Any) -> Pipeline:
    return Pipeline(Experiment(run=RunConfig(outputs=str(root), **run)), reporter or SilentReporter())


def refusing(number: int, text: str = "") -> Work:
    def work(context: StageContext) -> None:
        raise RuntimeError(text) if text else OSError(number, os.strerror(number), str(context.directory / "patch"))

    return work


REFUSALS = [
    (refusing(errno.ENOSPC), "erase: the disk is full"),
    (refusing(errno.EDQUOT), "erase: the disk is full"),
    (
        refusing(0, "Error while serializing: I/O error: No space left on device (os error 28)"),
        "erase: the disk is full",
    ),
    (refusing(errno.EROFS), "erase: the file system is read-only"),
    (refusing(errno.EACCES), "erase: no permission"),
    (refusing(errno.EIO), "erase: the disk reports an error"),
    (refusing(errno.EMFILE), "erase: too many open files"),
]


@pytest.mark.parametrize(("work", "told"), REFUSALS, ids=[told for _, told in REFUSALS])
def test_what_the_machine_refuses_is_one_line_and_the_next_call_goes_on(
    tmp_path: Path, stages: Stages, work: Work, told: str
) -> None:
    stages.work = work
    with pytest.raises(UserError, match=told) as raised:
        pipeline(tmp_path).make("erase")
    assert raised.value.hint
    assert Store(tmp_path).list("erase") == []
    stages.work = lambda context: None
    assert pipeline(tmp_path).make("erase").path.name == "v001"
    assert (stages.runs, stages.resumed) == (["train_token", "erase"], [False, True])


@pytest.mark.parametrize("file", [".key.json", "payload.json", "config.yaml", "manifest.json"])
def test_a_disk_that_is_full_at_any_file_of_a_version_is_told_and_survived(
    tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if (path.name == file or path.name.startswith(f".{file}.")) and set(mode) & set("wax"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, mode, *rest, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", full)
        with pytest.raises(UserError, match="the disk is full"):
            pipeline(tmp_path).make("train_token")
    assert Store(tmp_path).list() == []
    made = pipeline(tmp_path).make("train_token")
    assert made.path.name == "v001"
    assert payload(made.path).keys() == {"payload.json", "config.yaml"}


def test_a_file_larger_than_the_system_allows_is_told_and_survived(tmp_path: Path, stages: Stages) -> None:
    stages.work = lambda context: write_json(context.directory / "large.json", ["x" * 100] * 1000)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(UserError, match="erase: a file is larger than allowed here"):
            pipeline(tmp_path).make("erase")

    assert fork(limited) == 0
    assert not list(tmp_path.rglob("*.part")), "what could not be written takes no room"
    assert (pipeline(tmp_path).make("erase").path / "large.json").stat().st_size > 100_000


def test_outputs_that_are_read_only_are_told_and_what_is_done_in_them_is_still_reused(
    tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(tmp_path).make("train_token")
    opened, made = Path.open, os.mkdir

    def open_to_read(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if path.is_relative_to(tmp_path) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *rest, **more)

    def no_folder(path: Any, *rest: Any, **more: Any) -> None:
        if Path(path).is_relative_to(tmp_path) and not Path(path).exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        made(path, *rest, **more)

    monkeypatch.setattr(Path, "open", open_to_read)
    monkeypatch.setattr(os, "mkdir", no_folder)
    assert pipeline(tmp_path).make("train_token").path.name == "v001"
    for stage, seed in (("erase", 0), ("train_token", 1)):
        with pytest.raises(UserError, match="cannot write to .*: Read-only file system") as raised:
            pipeline(tmp_path, seed=seed).make(stage)
        assert "--outputs" in raised.value.hint


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(UserError, match="cannot lock files"), Store(tmp_path).lock("erase", "demo", KEY, print):
        pass


def test_an_input_file_that_vanishes_after_planning_is_named_and_can_be_put_back(
    tmp_path: Path, stages: Stages
) -> None:
    texts = tmp_path / "texts.jsonl"
    stages.work = lambda context: (context.directory / "copy.txt").write_text(texts.read_text()) and None
    texts.write_text("x")
    made = pipeline(tmp_path / "outputs")
    made.plan("erase")
    texts.unlink()
    with pytest.raises(UserError, match=f"erase: {texts} is missing"):
        made.make("erase")
    texts.write_text("x")
    assert (pipeline(tmp_path / "outputs").make("erase").path / "copy.txt").read_text() == "x"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (flipped, "has changed since it was written"),
    (lambda path: path.write_bytes(path.read_bytes()[:-3]), "bytes, not"),
    (lambda path: path.unlink(), "is missing"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGES, ids=[told for _, told in DAMAGES])
@pytest.mark.parametrize("stage", ["train_token", "erase"])
def test_a_damaged_artefact_is_refused_by_name_and_made_anew_once_it_is_removed(
    tmp_path: Path, stages: Stages, damage: Callable[[Path], object], told: str, stage: str
) -> None:
    artefact = pipeline(tmp_path).make(stage)
    content = payload(artefact.path)
    damage(artefact.path / "payload.json")
    with pytest.raises(UserError, match=f"{stage}/.*@v001 is damaged: .*payload.json .*{told}") as raised:
        pipeline(tmp_path).make("erase")
    folder = Path(raised.value.hint.removeprefix("rm -r ").partition(", and")[0])
    assert folder == artefact.path
    discard(folder)
    pipeline(tmp_path).make("erase")
    again = Store(tmp_path).find(stage, artefact.key)
    assert again is not None
    assert payload(again.path) == content


def test_the_log_may_be_written_on_without_harm(tmp_path: Path, stages: Stages) -> None:
    made = pipeline(tmp_path, Heard()).make("train_token")
    (made.path / "log.txt").write_text("a remark")
    assert pipeline(tmp_path).make("train_token").path == made.path


def test_a_clock_that_is_set_back_neither_hides_the_newer_version_nor_makes_times_negative(
    tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [2e9]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    made = [pipeline(tmp_path, force=force).make("erase") for force in (False, True, True)]
    assert [artefact.path.name for artefact in made] == ["v001", "v002", "v003"]
    store = Store(tmp_path)
    found = store.find("erase", made[0].key)
    assert found is not None
    assert found.path == made[-1].path == store.resolve("latest").path
    assert [a.path.name for a in store.list("erase")] == ["v001", "v002", "v003"]
    assert all(min(artefact.manifest[name] for name in ("wall_seconds", "cpu_seconds")) >= 0 for artefact in made)
    assert made[-1].manifest["finished"] < made[0].manifest["finished"], "the recorded time is what the clock said"


def held(root: Path, stages: Stages, seconds: float) -> int:
    """A process that is at work on ``erase``; its id, once it holds the lock."""

    def work(context: StageContext) -> None:
        (root / "working").touch()
        time.sleep(seconds)

    stages.work = work
    child = os.fork()
    if child == 0:
        try:
            pipeline(root).make("erase")
        finally:
            os._exit(0)
    deadline = time.monotonic() + 30
    while not (root / "working").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stages.work = lambda context: None
    return child


def test_of_two_processes_with_one_key_one_works_and_the_other_waits_says_so_and_reuses(
    tmp_path: Path, stages: Stages
) -> None:
    child = held(tmp_path, stages, seconds=1.0)
    reporter = Heard()
    made = pipeline(tmp_path, reporter).make("erase")
    os.waitpid(child, 0)
    assert stages.runs == [], "this process has made nothing"
    waiting = next(i for i, text in enumerate(reporter.heard) if "another process is making erase/" in text)
    assert reporter.heard[waiting + 1 :] == [f"erase: reusing {made.path}"]
    assert [artefact.path.name for artefact in Store(tmp_path).list("erase")] == ["v001"]


def test_the_lock_of_a_process_that_is_killed_is_free_and_its_work_is_taken_up(tmp_path: Path, stages: Stages) -> None:
    child = held(tmp_path, stages, seconds=60.0)
    reporter = Heard("another process is making", lambda: os.kill(child, signal.SIGKILL))
    made = pipeline(tmp_path, reporter).make("erase")
    os.waitpid(child, 0)
    assert stages.resumed == [True]
    assert made.path.name == "v001"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"), "error: the disk is full (/data/x)"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/x"), "error: no permission (/data/x)"),
        (
            FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/data/x"),
            "error: /data/x is missing",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes."),
            "error: out of memory",
        ),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "error: out of memory"),
    ],
    ids=lambda value: value.removeprefix("error: ") if isinstance(value, str) else "",
)
def test_outside_of_stages_too_a_refusal_is_a_line_with_a_hint_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def compose_for(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(session, "compose_for", compose_for)
    result = CliRunner().invoke(app, ["run"], prog_name="unierase")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first == told
    assert second.startswith("  try: ")


def test_an_error_of_the_code_is_no_refusal_of_the_machine() -> None:
    for error in (
        KeyError("x"),
        ValueError("No space left"),
        FileNotFoundError("no name"),
        ConnectionResetError(104, "reset"),
    ):
        assert as_user_error(error) is None
        assert not is_out_of_memory(error)
    caused = RuntimeError("cannot save")
    caused.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert as_user_error(caused, "export") is not None
    assert str(as_user_error(caused, "export")).startswith("export: the disk is full")
    import numpy as np

    with pytest.raises(MemoryError) as raised:
        np.empty(10**16)
    assert is_out_of_memory(raised.value), "numpy's own kind of MemoryError"
