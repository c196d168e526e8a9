"""Jobs as tasks of a Ray cluster of two workers: what they reserve, and that a dead worker or node loses and doubles nothing."""

from __future__ import annotations

import _thread
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers import sweep_stub
from tests.helpers.jobs import CHILD, Heard, job
from tests.helpers.places import ROOT
from unierase_cli.cli.app import app
from unierase_cli.cli.sweep import command as sweep_command
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.contracts import UserError
from unierase_cli.launch import ray as launcher
from unierase_cli.launch.jobs import Job
from unierase_cli.launch.ray import Demand
from unierase_cli.pipeline import pipeline as pipeline_module
from unierase_cli.store.artefacts import Store

CONFIG = LauncherConfig("ray", jobs=2, cpus=1, gpus=None, memory_gib=None)
ONE_CORE = Demand(cpus=1, gpus=0)
# The first attempt waits to be killed; each notes its own process and its worker's.
ATTEMPTS = """
import os, sys, time
from pathlib import Path
noted = Path({path!r})
again = noted.exists()
with noted.open("a") as stream:
    stream.write(f"{{os.getpid()}} {{os.getppid()}}\\n")
print("begun", file=sys.stderr, flush=True)
again or time.sleep(60)
print("made")
"""


class Killer(Heard):
    """Kills the worker of the first attempt as soon as that has begun; ``node``: and first its raylet, as when a node goes down."""

    def __init__(self, noted: Path, *, node: bool = False) -> None:
        super().__init__()
        self.noted, self.node = noted, node
        self.killed: list[int] = []

    def alive(self, job: Job, words: str) -> None:
        if not self.killed and self.noted.exists() and (text := self.noted.read_text()):
            worker = int(text.split()[1])
            self.killed = [parent_of(worker), worker] if self.node else [worker]
            for process in self.killed:
                os.kill(process, signal.SIGKILL)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_is_measured_by_what_a_run_reserves_of_it() -> None:
    wanted = Demand(cpus=2, gpus=1, memory=3 << 30)
    assert str(wanted) == "2 CPU cores, 1 GPU, 3.0 GiB of main memory"
    large = {"CPU": 2.0, "GPU": 1.0, "memory": float(3 << 30)}
    assert wanted.fits(large)
    assert not any(wanted.fits({**large, name: amount / 2}) for name, amount in large.items())
    ray: Any = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": large}])
    assert "no node of the Ray cluster has 2 CPU cores, 1 GPU" in (launcher.too_large(ray, wanted) or "")
    assert launcher.too_large(ray, ONE_CORE) is None


@pytest.mark.parametrize(
    ("there", "config", "device", "gpus"),
    [
        ({"GPU": 2.0}, CONFIG, "auto", 1),
        ({"GPU": 2.0}, CONFIG, "cpu", 0),
        ({"CPU": 8.0}, CONFIG, "auto", 0),
        ({"CPU": 8.0}, LauncherConfig("ray", gpus=2), "auto", 2),
    ],
)
def test_a_run_gets_a_gpu_if_the_cluster_has_some_and_it_may_use_one(
    there: dict[str, float], config: LauncherConfig, device: str, gpus: int
) -> None:
    ray: Any = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": there}])
    assert launcher.demand(ray, config, device).gpus == gpus


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
        with pytest.raises(UserError, match="no Ray cluster answers at RAY_ADDRESS=127.0.0.1:"), launcher.connected():
            pass


def test_an_address_of_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    with pytest.raises(UserError, match="RAY_ADDRESS=ray://head:10001 is an address of Ray Client"), launcher.connected():
        pass


def test_a_signal_to_end_is_left_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def init(**settings: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, shutdown=lambda: None))
    with launcher.connected():
        assert signal.getsignal(signal.SIGTERM) == before


def test_where_no_cluster_runs_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> None:
        assert settings["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance. Please set `--address`.\nSecond line")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    told = r"no Ray cluster answers: Could not find any running Ray instance - start one with `ray start --head`"
    with pytest.raises(UserError, match=told), launcher.connected():
        pass


def test_what_ray_prints_goes_to_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=lambda **settings: None, shutdown=lambda: None))
    with launcher.connected():
        print("(raylet) a worker died")
    print("{}")
    assert capsys.readouterr() == ("{}\n", "(raylet) a worker died\n")


def test_an_attempt_that_is_cancelled_ends_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / "0.started"

    def cancel() -> None:
        # As Ray does it: this interrupts no system call.
        while not begun.exists():
            time.sleep(0.05)
        _thread.interrupt_main()

    threading.Thread(target=cancel, daemon=True).start()
    one = replace(job(tmp_path, 0, ""), command=(sys.executable, "-c", CHILD, str(tmp_path / "0")))
    with pytest.raises(KeyboardInterrupt):
        launcher.Attempt(one, {"PYTHONPATH": str(ROOT)}, str(tmp_path))()
    assert (tmp_path / "0.stopped").exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster without cores of its own and two workers of one core; tests may kill one of them and add another."""
    pytest.importorskip("ray", reason="needs ray: pip install 'unierase[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        small = {"object_store_memory": 80 << 20}
        try:
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
            for _ in range(2):
                made.add_node(num_cpus=1, memory=4 << 30, **small)
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            pytest.skip("this machine is too busy: a node of Ray must start within 30 seconds")
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.mark.slow
def test_ray_runs_the_same_jobs(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    codes = [
        "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'], os.getcwd())",
        "import sys; sys.exit('error: no such thing')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    ]
    heard = Heard()
    # Named from the working directory, which a worker does not share.
    jobs = [(job(Path(), n, code), ONE_CORE) for n, code in enumerate(codes)]
    with launcher.connected() as ray:
        done = {end.job.number: end for end in launcher.run_on_ray(ray, jobs, CONFIG, heard)}
    assert (tmp_path / "0.json").read_text() == f"1 1 {tmp_path}\n"
    assert {n: end.code for n, end in done.items()} == {0: 0, 1: 1, 2: -9}
    assert done[1].error == "no such thing"
    assert sorted(heard.begun) == ["job 0", "job 1", "job 2"]


@pytest.mark.slow
@pytest.mark.parametrize("node", [False, True], ids=["worker", "node"])
def test_a_job_whose_worker_or_node_is_killed_ends_with_it_and_is_run_again(node: bool, cluster: Any, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    killer = Killer(noted, node=node)
    with launcher.connected() as ray:
        made = [(job(tmp_path, 1, ATTEMPTS.format(path=str(noted))), ONE_CORE)]
        (done,) = launcher.run_on_ray(ray, made, CONFIG, killer)
    assert len(killer.killed) == 1 + node
    assert (done.code, done.error) == (0, "")
    first, second = (int(line.split()[0]) for line in noted.read_text().splitlines())
    assert not any(Path(f"/proc/{process}").exists() for process in (first, second))
    assert (tmp_path / "1.json").read_text() == "made\n"
    if node:
        cluster.add_node(num_cpus=1, memory=4 << 30)


class Interrupting(Heard):
    """Is interrupted, as by Ctrl-C, as soon as a file is there."""

    def __init__(self, begun: Path) -> None:
        super().__init__()
        self.file = begun

    def alive(self, job: Job, words: str) -> None:
        if self.file.exists():
            raise KeyboardInterrupt


@pytest.mark.slow
def test_ending_a_sweep_ends_its_jobs_and_starts_no_further_one(cluster: Any, tmp_path: Path) -> None:
    made = [job(tmp_path, n, "") for n in range(2)]
    # A worker that is shut down before it has ended its job leaves that to the signal of its death.
    child = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n" + CHILD
    jobs = [(replace(one, command=(sys.executable, "-c", child, str(tmp_path / str(one.number)))), ONE_CORE) for one in made]
    with launcher.connected() as ray, pytest.raises(KeyboardInterrupt):
        launcher.run_on_ray(ray, jobs, LauncherConfig("ray", jobs=1), Interrupting(tmp_path / "0.started"))
    deadline = time.monotonic() + 30
    while not (tmp_path / "0.stopped").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "1.started").exists()


@pytest.mark.slow
def test_a_job_whose_workers_keep_dying_fails_with_rays_reason(cluster: Any, tmp_path: Path) -> None:
    kill = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    config = LauncherConfig("ray", cpus=1, retries=1)
    with launcher.connected() as ray:
        (done,) = launcher.run_on_ray(ray, [(job(tmp_path, 1, kill), ONE_CORE)], config, Heard())
    assert done.code == 1
    assert done.error.startswith("WorkerCrashedError: ")
    assert (tmp_path / "1.log").read_text().count("$ ") == 2


@pytest.mark.slow
def test_a_sweep_that_loses_a_worker_makes_everything_once(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "load_stage", sweep_stub.stage)
    monkeypatch.setattr(sweep_command, "PROGRAM", (sys.executable, "-m", "tests.helpers.sweep_stub"))
    monkeypatch.chdir(ROOT)
    (tmp_path / sweep_stub.ORPHANED).touch()
    words = ["method=none,npo_gd", "launcher=ray", "launcher.cpus=1", f"run.outputs={tmp_path}", "--audit", "quick", "--json"]
    result = CliRunner().invoke(app, ["sweep", *words], prog_name="unierase")
    assert result.exit_code == 0, result.stderr
    assert "each run reserves up to 1 CPU core, " in result.stderr
    swept = json.loads(result.stdout)
    assert [run["state"] for run in swept["runs"]] == ["made", "made"]
    assert [run["audit"]["error"] for run in swept["runs"]] == [None, None]
    begun = Counter((tmp_path / "made.txt").read_text().splitlines())
    # The stage that was cut off is begun a second time.
    assert begun == Counter({"observe base": 2, "observe edited": 2, "erase ": 2, "score ": 2, "audit ": 2})
    stages = {line.split()[0] for line in begun}
    made = [artefact.key for artefact in Store(tmp_path).list() if artefact.stage in stages]
    assert len(made) == len(set(made)) == sum(begun.values()) - 1
