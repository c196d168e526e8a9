"""Two processes train as one does: `torchrun -m unierase_cli` and `accelerate launch -m unierase_cli` on CPUs (gloo)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.tiny_models import save_folder, tiny_llama
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.model import TrainConfig
from unierase_cli.editing.patch import Patch
from unierase_cli.pipeline import several_processes as together
from unierase_cli.pipeline.stage import StageContext
from unierase_cli.store.artefact import read_artefact
from unierase_cli.store.jsonl import read_jsonl
from unierase_cli.training import processes

pytestmark = pytest.mark.slow

LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"],
    "accelerate": [
        # With --cpu it starts one process alone.
        "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
        "--dynamo_backend=no", "--main_process_port=0", "-m",
    ],
}  # fmt: skip


def words(folder: Path, outputs: Path, *more: str) -> list[str]:
    return [
        "erase", "method=npo_kl", "model=hf", f"model.path={folder}", "benchmark=fictional", "benchmark.split=forget05",
        "benchmark.authors=40", "unlearn.batch_size=8", "unlearn.epochs=2", "unlearn.lr=1e-3", "unlearn.compute=float32",
        "unlearn.stop_retain_loss=100", f"run.outputs={outputs}", "run.device=cpu", "run.threads=1", *more,
    ]  # fmt: skip


def launch(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, *command], text=True, capture_output=True, env=environment, timeout=300)


def losses(outputs: Path) -> list[dict[str, float]]:
    (patch,) = (outputs / "erase").glob("*/v001/patch-000.json")
    return json.loads(patch.read_text())["info"]["losses"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_llama(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("alone")
    done = launch(["-m", "unierase_cli", *words(folder, outputs)])
    assert done.returncode == 0, done.stderr
    return outputs


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_as_one_does(launcher: str, folder: Path, alone: Path, tmp_path: Path) -> None:
    if launcher == "accelerate":
        pytest.importorskip("accelerate")
    done = launch([*LAUNCHERS[launcher], "unierase_cli", *words(folder, tmp_path)])
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 5
    for one, two in zip(losses(alone), losses(tmp_path), strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    (first,), (second,) = ((o / "erase").glob("*/v001") for o in (alone, tmp_path))
    assert [read_artefact(path).manifest["machine"]["processes"] for path in (first, second)] == [1, 2]
    assert read_jsonl(first / "plan-000.jsonl") == read_jsonl(second / "plan-000.jsonl")
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in second.iterdir())
    moved, same = (Patch.load(path, 0).dense for path in (first, second))
    far = max(float((moved[name] - same[name]).abs().max()) for name in moved)
    assert far < 5 * 2e-3, "five steps of at most twice the rate"


def test_spread_blocks_train_as_whole_ones_do(folder: Path, alone: Path, tmp_path: Path) -> None:
    done = launch([*LAUNCHERS["torchrun"], "unierase_cli", *words(folder, tmp_path, "unlearn.sharding=fsdp")])
    assert done.returncode == 0, done.stderr
    for one, two in zip(losses(alone), losses(tmp_path), strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    (first,), (second,) = ((o / "erase").glob("*/v001") for o in (alone, tmp_path))
    moved, same = (Patch.load(path, 0).dense for path in (first, second))
    assert {n: t.dtype for n, t in moved.items()} == {n: t.dtype for n, t in same.items()}
    assert max(float((moved[name] - same[name]).abs().max()) for name in moved) < 5 * 2e-3


def test_the_others_work_with_the_experiment_that_the_first_process_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    retain_only = Experiment(train=TrainConfig(name="mini", split="retain"))
    orders = iter([("finetune", retain_only, "folder", {}, {"state": "base"}, False), None])
    seen: list[StageContext] = []
    monkeypatch.setattr(processes, "hear", lambda: next(orders))
    monkeypatch.setattr(together, "load_stage", lambda name: SimpleNamespace(run=seen.append))
    together.follow()
    assert [(context.experiment, context.options) for context in seen] == [(retain_only, {"state": "base"})]


def test_a_mistake_is_told_once_whatever_the_number_of_processes(folder: Path, tmp_path: Path) -> None:
    done = launch([*LAUNCHERS["torchrun"], "unierase_cli", *words(folder, tmp_path, "unlearn.batch_size=500")])
    assert done.returncode != 0
    assert done.stderr.count("unlearn.batch_size=500 is larger than the forget set") == 1


def test_a_process_that_fails_alone_ends_the_job_and_says_why(folder: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard"):
        pytest.skip("only the first process has a tracker, and here it can")
    done = launch([*LAUNCHERS["torchrun"], "unierase_cli", *words(folder, tmp_path, "run.tracker=tensorboard")])
    assert done.returncode != 0
    assert "needs the package tensorboard" in done.stderr


def test_uneven_shares_are_refused_where_blocks_are_spread(folder: Path, tmp_path: Path) -> None:
    more = ["unlearn.sharding=fsdp", "unlearn.batch_size=5"]
    done = launch([*LAUNCHERS["torchrun"], "unierase_cli", *words(folder, tmp_path, *more)])
    assert done.returncode != 0
    assert "cannot be divided evenly among 2 processes" in done.stderr
