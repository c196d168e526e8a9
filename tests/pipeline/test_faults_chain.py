"""The demo's chain, killed at operations of choice: the next runs end with the same files, and no reader is ever misled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.dying import SCHEDULES
from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``tests.helpers.dying`` saw. In a process of its own: one that has computed gradients cannot be forked."""
    command = [sys.executable, "-m", "tests.helpers.dying", str(tmp_path_factory.mktemp("dying"))]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_chain_has_all_stages_of_the_demo(found: dict[str, Any]) -> None:
    stages = {name.partition("/")[0] for name in found["stages"]}
    assert stages == {"finetune", "train_token", "moments", "erase", "observe", "score", "report"}
    assert len(found["stages"]) == 8


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_chain_that_was_killed_again_and_again_ends_with_the_files_of_an_undisturbed_one(
    schedule: str, found: dict[str, Any]
) -> None:
    ended = found[schedule]
    assert ended["code"] == 0
    assert ended["deaths"] >= 5, "it came through too early to say anything"
    assert ended["missing"] == []
    assert ended["differing"] == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_a_reader_takes_for_complete_is_what_it_will_be_at_the_end(schedule: str, found: dict[str, Any]) -> None:
    assert found[schedule]["half_seen"] == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_deaths_leave_neither_further_versions_nor_folders_behind(schedule: str, found: dict[str, Any]) -> None:
    assert found[schedule]["litter"] == []
