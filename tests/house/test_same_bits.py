"""Same in, same out: any number of processes writes the same files, and any batch size gives the same metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.observing import ROWS, edited_model, experiment, run, scored
from tests.helpers.places import ROOT
from tests.helpers.settings import with_settings
from tests.helpers.shared_asking import ask_everything, counted
from tests.helpers.suites import write_suites
from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.contracts import Benchmark, SilentReporter
from unierase_cli.rerun.differences import of_values
from unierase_cli.rerun.verdict import TOLD
from unierase_cli.stages import observe as stage
from unierase_cli.store.artefact import MANIFEST


def ask_with_two(folder: Path, outputs: Path) -> None:
    """``shared_asking`` in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = [sys.executable, *launcher, "tests.helpers.shared_asking", *map(str, (folder / "model", folder / "suites", outputs))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, text=True, capture_output=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr


def payload(outputs: Path) -> dict[str, bytes]:
    """The files of every artefact but those that tell names and times."""
    paths = [path for path in outputs.glob("*/*/v001/*") if path.is_file() and path.name not in (*TOLD, MANIFEST)]
    return {path.relative_to(outputs).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_two_processes_that_ask_write_the_files_of_one(tmp_path: Path) -> None:
    save_folder(tiny_llama(max_position_embeddings=1024), tmp_path / "model")
    write_suites(tmp_path / "suites")
    with counted() as alone:
        ask_everything(tmp_path / "model", tmp_path / "suites", tmp_path / "one")
    (tmp_path / "two").mkdir()
    ask_with_two(tmp_path, tmp_path / "two")
    one, two = payload(tmp_path / "one"), payload(tmp_path / "two")
    assert {name.split("/")[0] for name in one} == {"erase", "general", "observe", "observe_facts"}
    assert one == two
    first, second = (json.loads((tmp_path / "two" / f"asked-{rank}.json").read_text()) for rank in (0, 1))
    assert sorted([*first, *second]) == sorted(alone), "every batch is asked by one of them"
    assert len(second) >= len(alone) // 3
    (manifest,) = (tmp_path / "two" / "observe").glob(f"*/v001/{MANIFEST}")
    assert json.loads(manifest.read_text())["machine"]["processes"] == 2


@pytest.mark.slow
def test_metrics_do_not_depend_on_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No row is in two splits: attacks rank rows of the forget set against the holdout, and a tie would be broken by rounding.
    splits = {"forget": tuple(ROWS[:3]), "retain_unseen": tuple(ROWS[3:6]), "holdout": tuple(ROWS[6:])}
    benchmark = Benchmark("test", tuple(ROWS[:3]), (), splits, "x")
    monkeypatch.setattr("unierase_cli.pipeline.study.load_benchmark", lambda *_, **__: benchmark)
    monkeypatch.setattr(stage, "load_base", lambda *_: tiny_llama(seed=4))
    monkeypatch.setattr(stage, "load_edited", lambda *_: edited_model())
    metrics = {}
    for size in (1, 3, 64):
        config = with_settings(experiment(), eval__batch_size=size)
        folder = tmp_path / str(size)
        folder.mkdir()
        for state in ("base", "edited"):
            run(folder / state, state, config)
        scored(folder, SilentReporter(), config)
        metrics[size] = json.loads((folder / "score" / "metrics.json").read_text())
    assert sum(metric["value"] is not None for metric in metrics[1]["states"]["edited"].values()) > 25
    for size in (3, 64):
        # Means, intervals and the value of every row; what is said and what is unavailable are equal altogether.
        found = of_values(metrics[1], metrics[size])
        assert (found.largest < 1e-6, found.other) == (True, ""), found
