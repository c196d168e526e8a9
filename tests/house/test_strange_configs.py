"""Words and yamls that nobody meant: a plan or one clear line, never a traceback, and nothing is loaded, made or run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers import strange
from tests.helpers.places import ROOT
from unierase_cli.cli.app import app
from unierase_cli.cli.failures import TRACEBACK
from unierase_cli.config.compose import compose
from unierase_cli.config.overrides import known_keys, leaf_type
from unierase_cli.contracts import UserError

given = strange.hypothesis.given
runner = CliRunner()
# The last stage of a plan, by the mode.
LAST = {"report", "score", "trajectory", "precise"}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # An unexpected error is raised, not told in one line that names a file.
    monkeypatch.setenv(TRACEBACK, "1")


def plan(words: Sequence[str], *more: str) -> Result:
    return runner.invoke(app, ["run", "--dry-run", "--json", *more, "--", *words], prog_name="unierase")


def check(result: Result) -> None:
    """A plan that ends in a report, or one line of what is wrong and one of what to type."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code == 0:
        rows = json.loads(result.stdout)
        assert rows[-1]["stage"] in LAST
        assert all(
            len(row["slug"].encode()) <= 200 and "/" not in row["slug"] and row["slug"].strip(".") for row in rows
        )
        assert all(row["state"] == "missing" for row in rows)
        return
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    lines = lines[-2:] if len(lines) > 2 else lines  # notes may come before
    assert lines[0].startswith("error: ")
    assert len(lines[0]) > len("error: x")
    assert lines[1].startswith("  try: ")
    assert result.stdout == ""
    assert len(result.stderr) < 4000


def test_strange_words_give_a_plan_or_one_line(tmp_path: Path) -> None:
    @given(strange.command_lines())
    @strange.settings(110)  # each takes a tenth of a second
    def holds(words: list[str]) -> None:
        check(plan(words))
        assert list(tmp_path.iterdir()) == []

    holds()


def test_a_strange_yaml_gives_a_plan_or_one_line_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "conf"

    @given(strange.yamls())
    @strange.settings(60)
    def holds(made: tuple[str, bytes]) -> None:
        group, content = made
        path = folder / group / "mine.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        result = plan([f"{group}=mine"], "--config-dir", str(folder))
        path.unlink()
        check(result)

    holds()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_no_number_of_the_configuration_may_be_infinite_or_none(value: str) -> None:
    floats = [key for key in known_keys() if leaf_type(key) is float]
    assert len(floats) > 30
    for key in floats if strange.LONG else floats[::8]:
        with pytest.raises(UserError, match=key):
            compose([f"{key}={value}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run.seed=" + "9" * 5000], "the configuration cannot be composed: Exceeds the limit"),
        (["run.seed=9223372036854775808"], "run.seed is a number with more than 64 bits"),
        (["run.outputs="], "run.outputs is empty"),
        (["run.threads=-1"], "run.threads=-1 must be at least 0"),
        (["edit.layers=[]"], "edit.layers=[] must be blocks from 0 up in ascending order, each once"),
        (["edit.layers=[-1,2]"], "edit.layers=[-1, 2] must be blocks from 0 up"),
        (["model.layers=[3,3]"], "model.layers=[3, 3] must be blocks from 0 up"),
        (["train.heads=5"], "train.hidden_size=192 is not an even multiple of train.heads=5"),
        (["token.refine_lr=-1"], "token.refine_lr=-1.0 must be above 0"),
        (["edit.values.kl_factor=-1"], "edit.values.kl_factor=-1.0 must be at least 0"),
        (["edit.templates.top_k=0"], "edit.templates.top_k=0 must be above 0"),
        (["unlearn.betas=[a,b]"], "unlearn.betas=['a', 'b'] must be a list of numbers"),
        (["unlearn=soul", "unlearn.optimizer_settings.rho=0"], "unlearn.optimizer_settings.rho=0 must be above 0"),
        (["model.path=\udcff"], r"the word 'model.path=\udcff' is not UTF-8"),
        (["method.forget.settings={a: inf}"], "method.forget.settings.a=inf is not a finite number"),
    ],
)
def test_what_the_types_let_pass_and_no_run_can_use_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        compose(words)
    assert raised.value.message.startswith(message)
    assert raised.value.hint


def test_a_name_of_any_length_makes_a_folder_that_the_system_takes(tmp_path: Path) -> None:
    slugs = [json.loads(plan([f"token.name={'x' * 600}{tail}"]).stdout) for tail in "ab"]
    first, second = ({row["stage"]: row["slug"] for row in rows}["train_token"] for rows in slugs)
    assert len(first.encode()) <= 200
    assert first != second
    (tmp_path / first).mkdir()


@pytest.mark.parametrize(
    "words", [["run.seed=" + "9" * 5000], ["model.path=\udcff"], ["edit.layers=[[["], ["x" * 5000]]
)
def test_the_installed_command_tells_the_same_in_two_lines(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unierase_cli", "run", "--dry-run", *words]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    place.pop(TRACEBACK, None)
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=place)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, b"", 2)
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  try: ")
    assert len(lines[0]) < 1000
    assert list(tmp_path.iterdir()) == []
