"""Whatever goes wrong is one line on stderr with what to type next; tracebacks go into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from unierase_cli.cli import session
from unierase_cli.cli.app import app
from unierase_cli.contracts import UserError

runner = CliRunner()


def run(*words: str) -> Result:
    return runner.invoke(app, list(words), prog_name="unierase")


def lines(result: Result) -> list[str]:
    return result.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["rnu"], "error: there is no command rnu", "  try: unierase run"),
        (
            ["experiment=demo"],
            "error: experiment=demo is not a command",
            "  try: unierase run experiment=demo",
        ),
        (["run", "--modle", "mini"], "error: no such option: --modle", "  try: --mode"),
        (["run", "--foo"], "error: no such option: --foo", "  try: unierase run --help"),
        (["run", "--foce"], "error: no such option: --foce", "  try: --force"),
        (["export", "--bese", "x"], "error: no such option: --bese", "  try: --base"),
        (["run", "--out", "x"], "error: no such option: --out", "  try: --outputs"),
        (["run", "--seed", "abc"], "error: invalid value for '--seed'", "  try: unierase run --help"),
        (["run", "--seed"], "error: option '--seed' requires an argument", "  try: unierase"),
        (["run", "model=mni"], "error: model=mni is not a choice", "  try: model=mini"),
        (
            ["run", "--dry-run", "method=unierase_deep", "unlearn.epochs=3"],
            "error: unlearn.epochs=3 changes nothing: rmu has its own value",
            "  try: method.chain.rmu.unlearn.epochs=3",
        ),
        (["run", "--model", "mni"], "error: model=mni is not a choice", "  try: model=mini"),
        (["run", "clamp=3"], "error: there is no key clamp", "  try: edit.values.clamp"),
        (["run", "run.seed=abc"], "error: run.seed=abc must be a whole number", "  try: type for example run.seed=1"),
        (
            ["run", "--mode", "batch", "mode=nightly"],
            "error: mode=nightly is not a choice",
            "  try: choose one of",
        ),
        (
            ["run", "experiment=tofu_mini"],
            "error: experiment=tofu_mini needs benchmark.data_dir and model.path",
            "  try: add",
        ),
        (
            ["run", "--config-dir", "/no/such/folder"],
            "error: --config-dir names /no/such/folder",
            "  try: leave it out",
        ),
        (["show"], "error: missing argument 'RUN'", "  try: unierase show --help"),
        (["ls", "modls"], "error: ls cannot list modls", "  try: mode"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(words: list[str], error: str, hint: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(lines(result)) == 2
    assert lines(result)[0].startswith(error)
    assert lines(result)[1].startswith(hint)


def failing(error: BaseException) -> Any:
    def compose_for(journal: session.Journal, wishes: Any) -> Any:
        journal.reporter.note("said before")
        journal.outputs = wishes.words[-1].partition("=")[2]
        raise error

    return compose_for


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session, "compose_for", failing(KeyboardInterrupt()))
    result = run("run", f"run.outputs={tmp_path}")
    assert result.exit_code == 130
    assert lines(result)[-1] == "interrupted; the same command resumes from here"


def test_an_unexpected_error_names_the_file_with_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session, "compose_for", failing(ZeroDivisionError("all\nwrong")))
    result = run("run", f"run.outputs={tmp_path}")
    assert result.exit_code == 1
    assert lines(result)[-2:-1] == ["error: ZeroDivisionError: all"]
    path = Path(lines(result)[-1].removeprefix("  try: the traceback is in "))
    text = path.read_text("utf-8")
    assert path.parent == tmp_path / "errors"
    assert "Traceback (most recent call last)" in text
    assert "said before" in text
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNIERASE_TRACEBACK", "1")
    monkeypatch.setattr(session, "compose_for", failing(ZeroDivisionError("x")))
    assert isinstance(run("run", f"run.outputs={tmp_path}").exception, ZeroDivisionError)


ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4."


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(ALLOCATOR)], ids=["python", "torch on Linux"])
def test_running_out_of_memory_points_to_the_doctor(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "compose_for", failing(error))
    result = run("run", f"run.outputs={tmp_path}")
    assert result.exit_code == 2
    assert "unierase doctor" in lines(result)[-1]


def test_an_error_of_several_lines_is_told_in_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session, "compose_for", failing(UserError("a\nb", "did you mean c?")))
    assert lines(run("run", f"run.outputs={tmp_path}"))[-2:] == ["error: a b", "  try: c"]


def test_a_mistake_in_what_comes_last_is_told_before_anything_is_made(tmp_path: Path) -> None:
    result = run("eval", "experiment=demo", "eval.passes=[perplexty]", f"run.outputs={tmp_path}")
    assert result.exit_code == 2
    assert lines(result)[-1] == "  try: eval.passes=perplexity"
    assert list(tmp_path.iterdir()) == []
