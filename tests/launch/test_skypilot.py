"""The task file for SkyPilot: its fields, and that its commands are those of this checkout."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.helpers.places import ROOT
from unierase_cli.cli.app import COMMANDS, app

TASK = yaml.safe_load((ROOT / "scripts" / "skypilot.yaml").read_text("utf-8"))


def test_it_asks_for_one_gpu_and_has_no_other_fields_than_skypilot_reads() -> None:
    assert set(TASK) <= {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
    assert set(TASK["resources"]) <= {"accelerators", "cpus", "memory", "disk_size", "use_spot", "image_id"}
    assert set(TASK["resources"]["accelerators"].values()) == {1}


@pytest.mark.parametrize("part", ["setup", "run"])
def test_its_scripts_are_bash_and_name_files_that_exist(part: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", TASK[part]], capture_output=True).returncode == 0
    named = re.findall(r"(?:source|bash) (\S+)", TASK[part])
    assert named
    assert all((ROOT / name).is_file() for name in named if not name.startswith(".venv/"))
    assert "prepare_environment() {" in (ROOT / "scripts" / "environment.sh").read_text("utf-8")


def test_its_commands_take_the_words_that_it_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in TASK["run"].splitlines() if line.startswith("unierase ")]
    assert [words[0] for words in commands] == ["doctor", "run", "show"]
    for name, *words in commands:
        assert name in COMMANDS
        given = [word for text in words for word in (TASK["envs"]["WORDS"].split() if text == "$WORDS" else [text])]
        more = {"doctor": ["--help"], "run": ["--dry-run"], "show": ["--help"]}[name]
        result = CliRunner().invoke(app, [name, *given, *more], prog_name="unierase")
        assert result.exit_code == 0, result.output
