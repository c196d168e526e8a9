"""Jobs as processes: several at a time, each for itself, stopped together; and the same through submitit's local executor."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.jobs import HEAR, Heard, job
from tests.helpers.places import ROOT
from unierase_cli.cli.render import ConsoleReporter
from unierase_cli.cli.sweep.watch import SweepWatch
from unierase_cli.config.sections.launcher import LauncherConfig
from unierase_cli.contracts import UserError
from unierase_cli.launch import slurm
from unierase_cli.launch.jobs import Finished, Job, last_words
from unierase_cli.launch.local import run_locally, share_out


def test_jobs_run_a_few_at_a_time_and_one_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    codes = [
        "print('fine')",
        "import sys; print('error: no such thing', file=sys.stderr); print('  try: this', file=sys.stderr); sys.exit(2)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "raise ValueError('odd')",
        "import sys, time; print('half way', file=sys.stderr, flush=True); time.sleep(1); print('late')",
    ]
    heard = Heard()
    done = run_locally([job(tmp_path, n, code) for n, code in enumerate(codes)], [{}, {}], heard)
    ends = {end.job.number: end for end in done}
    assert {n: end.code for n, end in ends.items()} == {0: 0, 1: 2, 2: -9, 3: 1, 4: 0}
    assert ends[1].error == "no such thing"
    assert ends[2].error == "killed by SIGKILL, most likely out of memory"
    assert ends[3].error == "ValueError: odd"
    assert ends[4].seconds >= 1
    assert (tmp_path / "4.json").read_text() == "late\n"
    assert heard.most == 2
    assert "half way" in heard.words
    assert last_words(tmp_path / "none.log") == ""


def test_a_job_that_cannot_be_started_is_a_failure_like_others(tmp_path: Path) -> None:
    broken = Job(1, "broken", (str(tmp_path / "nothing"),), tmp_path / "1.log", tmp_path / "1.json")
    done = run_locally([broken, job(tmp_path, 2, "pass")], [{}], Heard())
    assert [end.code for end in done] == [127, 0]
    assert "cannot be started" in done[0].error


def test_each_place_has_its_own_environment(tmp_path: Path) -> None:
    code = "import os; print(os.environ['PLACE'])"
    run_locally([job(tmp_path, n, code) for n in range(2)], [{"PLACE": "a"}, {"PLACE": "b"}], Heard())
    assert {(tmp_path / f"{n}.json").read_text().strip() for n in range(2)} == {"a", "b"}


def test_threads_and_gpus_are_shared_out_and_said() -> None:
    cores = len(os.sched_getaffinity(0))
    places, said = share_out(2, {"CUDA_VISIBLE_DEVICES": "3,5"})
    assert places == [
        {"OMP_NUM_THREADS": str(max(1, cores // 2)), "CUDA_VISIBLE_DEVICES": "3"},
        {"OMP_NUM_THREADS": str(max(1, cores // 2)), "CUDA_VISIBLE_DEVICES": "5"},
    ]
    assert f"OMP_NUM_THREADS={max(1, cores // 2)}" in said
    assert "CUDA_VISIBLE_DEVICES" in said
    kept, said = share_out(3, {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"})
    assert kept == [{}, {}, {}]
    assert "OMP_NUM_THREADS=4 as it was set" in said
    assert share_out(1, {}) == ([{}], "")


PARENT = (
    HEAR
    + """
import sys
from pathlib import Path
from tests.helpers.jobs import CHILD, Heard
from unierase_cli.launch.jobs import Job
from unierase_cli.launch.local import run_locally
folder = Path(sys.argv[1])
jobs = [Job(n, str(n), (sys.executable, '-c', CHILD, str(folder / str(n))), folder / 'log', folder / 'json') for n in range(3)]
try:
    run_locally(jobs, [{}, {}], Heard())
except KeyboardInterrupt:
    sys.exit(130)
"""
)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ending_a_sweep_ends_its_jobs_and_starts_no_further_one(kind: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not all((tmp_path / f"{n}.started").exists() for n in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(kind)
    assert parent.wait(20) == 130
    assert sorted(path.name for path in tmp_path.glob("*.stopped")) == ["0.stopped", "1.stopped"]
    assert not (tmp_path / "2.started").exists()


def test_the_launchers_section_is_told_to_submitit_in_its_words() -> None:
    config = LauncherConfig("slurm", jobs=4, partition="long", minutes=30, gpus=2, cpus=6, memory_gib=40, sbatch={"qos": "low"})
    assert slurm.parameters(config) == {
        "name": "unierase",
        "timeout_min": 30,
        "gpus_per_node": 2,
        "cpus_per_task": 6,
        "mem_gb": 40,
        "slurm_array_parallelism": 4,
        "slurm_additional_parameters": {"qos": "low"},
        "slurm_partition": "long",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "ssh"}, {"jobs": 0}, {"minutes": -1}, {"gpus": -1}, {"cluster": "debug"}, {"retries": -2},
        {"memory_gib": None, "name": "slurm"},
    ],
)  # fmt: skip
def test_a_launcher_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"launcher.{next(iter(wrong))}"):
        LauncherConfig(**wrong)


def test_submitit_runs_the_same_jobs(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs submitit: pip install 'unierase[slurm]'")
    codes = ["import os; print(os.environ['OMP_NUM_THREADS'])", "import sys; sys.exit('error: no such thing')"]
    codes.append("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    heard = Heard()
    config = LauncherConfig("slurm", cluster="local", gpus=0, cpus=3)
    jobs = [job(tmp_path, n, code) for n, code in enumerate(codes)]
    done = {end.job.number: end for end in slurm.run_on_slurm(jobs, config, tmp_path / "slurm", heard)}
    assert (tmp_path / "0.json").read_text() == "3\n"
    assert {n: end.code for n, end in done.items()} == {0: 0, 1: 1, 2: -9}
    assert done[1].error == "no such thing"
    assert sorted(heard.begun) == ["job 0", "job 1", "job 2"]


def test_an_attempt_that_is_cut_off_by_the_time_limit_is_queued_again(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit", reason="needs submitit: pip install 'unierase[slurm]'")
    attempt = slurm.Attempt(job(tmp_path, 0, "pass"), {})
    assert isinstance(attempt.checkpoint(), submitit.helpers.DelayedSubmission)
    assert attempt() == attempt() == 0
    assert (tmp_path / "0.log").read_text().count("$ ") == 2


def test_where_there_is_no_slurm_it_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="needs submitit: pip install 'unierase[slurm]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="the array cannot be submitted"):
        slurm.run_on_slurm([job(tmp_path, 0, "pass")], LauncherConfig("slurm"), tmp_path / "slurm", Heard())


@pytest.mark.parametrize("interactive", [True, False])
def test_a_sweep_under_way_is_shown_by_what_its_jobs_say(
    interactive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    kept: list[Finished] = []
    one, other = job(tmp_path, 1, ""), job(tmp_path, 2, "")
    with SweepWatch(ConsoleReporter(stream, interactive=interactive), 2, kept.append, every=0) as watch:
        watch.started(one)
        watch.alive(one, "observe base: [3/9]")
        if watch.bars is not None:
            watch.bars.refresh()
        watch.finished(Finished(one, 0, 61.0))
        watch.finished(Finished(other, 2, 0.5, "no [such] thing"))
    told = stream.getvalue()
    for text in ("observe base: [3/9]", "1/2 job 1: done in 1 min 01 s", "2/2 job 2: failed after 0.5 s: no [such] thing"):
        assert text in told
    assert [done.code for done in kept] == [0, 2]
