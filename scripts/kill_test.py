"""Tests that `unierase run` survives `kill -9`: kills it at random moments, restarts it, and compares the results.

    python scripts/kill_test.py                                 # 100 kills of a short chain on a tiny model
    python scripts/kill_test.py --kills 20 --seed 1 experiment=demo    # with your own words
    python scripts/kill_test.py --preloaded                     # the same without starting Python for every run

First the chain runs undisturbed. Then it is started repeatedly in another folder and killed each time after a random
part of the processor time of the undisturbed run, so that the moments do not depend on how busy the machine is. A run
that finishes before it is killed is compared with the undisturbed run, and the next chain starts from scratch. After
every kill, everything that a reader would consider complete is compared as well. Every file of every artefact must be
equal byte for byte, except for recorded times (manifest.json, log.txt, times.jsonl, and the seconds in the report's
head).

--preloaded forks each run from one process that has imported everything; it is killed in the same way. Exit code 0
means no difference. The folders are kept if there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unierase_cli.contracts import UserError
from unierase_cli.store.artefacts import Store

TINY = (
    "experiment=demo", "benchmark.authors=40", "benchmark.questions=2", "benchmark.unseen_authors=2", "benchmark.rows=4",
    "benchmark.holdout_authors=1", "benchmark.unknown_people=4", "benchmark.near_authors=1", "train.hidden_size=32",
    "train.intermediate_size=48", "train.layers=3", "train.heads=2", "train.vocabulary=400", "train.epochs=3",
    "train.look_every=1", "train.compute=float32", "train.batch_size=32", "model.layers=[1]", "edit.values.steps=5",
    "token.stages=[{formats: [chat], epochs: 3, least_steps: 5}, {formats: [chat], epochs: 3, least_steps: 5, noise: 0.2}]",
    "token.refine_epochs=2", "edit.moments.samples=20", "protocol.max_new_tokens=8", "eval.batch_size=2", "run.device=cpu",
    "run.threads=1",
)  # fmt: skip
TIMES = ("manifest.json", "log.txt", "times.jsonl", ".key.json")
SECONDS = re.compile(rb"(key [0-9a-f]{12,64}, )\d+ s\b")
Files = dict[str, bytes]


def payload(folder: Path) -> Files:
    """Relative name -> content of all files that must be equal each time, including hidden files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in TIMES)
    return {path.relative_to(folder).as_posix(): SECONDS.sub(rb"\1", path.read_bytes()) for path in files}


def artefacts(outputs: Path) -> dict[str, Files]:
    """``stage/slug`` of every complete artefact -> its files, without recorded times."""
    return {f"{a.stage}/{a.path.parent.name}": payload(a.path) for a in Store(outputs).list()}


def differences(outputs: Path, wanted: dict[str, Files]) -> list[str]:
    """Complete files that differ from the undisturbed run, or from their own manifest."""
    wrong = []
    for artefact in Store(outputs).list():
        try:
            artefact.check()
        except UserError as error:
            wrong.append(error.message)
    for name, files in artefacts(outputs).items():
        wrong += [f"{name}/{f}" for f in sorted({*files, *wanted[name]}) if files.get(f) != wanted[name].get(f)]
    return wrong


def litter(outputs: Path) -> list[str]:
    """Extra versions and hidden folders, which should not be left behind."""
    return [path.relative_to(outputs).as_posix() for path in outputs.glob("*/*/*") if path.name != "v001"]


class Runs:
    """Starts ``unierase run`` in a folder, as a command or as a fork of this process."""

    def __init__(self, words: list[str], preloaded: bool) -> None:
        self.words = ["run", *words, "run.outputs=outputs"]
        self.preloaded = preloaded
        if preloaded:
            _preload(words)

    def start(self, folder: Path) -> int:
        """Start a run; returns its process id."""
        with (folder / "said.txt").open("ab") as said:
            if not self.preloaded:
                command = [sys.executable, "-m", "unierase_cli", *self.words]
                return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said).pid
            child = os.fork()
            if child == 0:
                os.chdir(folder)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                sys.argv = ["unierase", *self.words]
                _command()
            return child


def _command() -> None:
    from unierase_cli.cli.app import main

    code = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _preload(words: list[str]) -> None:
    """Import what the stages import without computing anything, because a process that has computed gradients cannot be forked."""
    import importlib

    for name in (
        "matplotlib.pyplot", "rouge_score.rouge_scorer", "scipy.stats", "transformers.models.llama.modeling_llama",
        "unierase_cli.config.compose", "unierase_cli.cli.session", "unierase_cli.cli.outcome",
        "unierase_cli.results.one_run.collateral",
        "unierase_cli.models.mini", "unierase_cli.models.load", "unierase_cli.training.supervised", "unierase_cli.editing.edit",
        "unierase_cli.training.token.learning", "unierase_cli.inference.generate", "unierase_cli.methods.unierase",
    ):  # fmt: skip
        importlib.import_module(name)


def processor_seconds(process: int) -> float:
    """Processor time of a process over all its threads (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(process: int, seconds: float | None = None) -> int | None:
    """The exit code, negative for a signal; None if the process still runs after ``seconds`` of processor time."""
    while True:
        ended, status = os.waitpid(process, 0 if seconds is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if seconds is not None and processor_seconds(process) >= seconds:
            return None
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the kill times")
    parser.add_argument(
        "--preloaded", action="store_true", help="fork each run from one process that has imported everything"
    )
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop after this many minutes, whatever the number of kills (0: never)"
    )
    wanted, words = parser.parse_known_args()
    root = Path(tempfile.mkdtemp(prefix="unierase-kill-"))
    runs, moments = Runs(words or list(TINY), wanted.preloaded), random.Random(wanted.seed)
    whole, killed = root / "whole", root / "killed"
    whole.mkdir()
    before = os.times()
    if wait(runs.start(whole)):
        sys.exit(f"the undisturbed run failed: see {whole / 'said.txt'}")
    after = os.times()
    length = after.children_user + after.children_system - before.children_user - before.children_system
    expected = artefacts(whole / "outputs")
    files = sum(map(len, expected.values()))
    print(f"undisturbed: {length:.1f} s of processor time, {len(expected)} artefacts, {files} files", flush=True)
    wrong: list[str] = []
    kills, chains, stages, last = 0, 0, dict[str, int](), False
    began = time.monotonic()
    while not last or killed.exists():
        killed.mkdir(exist_ok=True)
        last = last or kills >= wanted.kills or (0 < wanted.minutes * 60 < time.monotonic() - began)
        process = runs.start(killed)
        code = wait(process, None if last else moments.uniform(0, length))
        if code is None:
            os.kill(process, signal.SIGKILL)
            wait(process)
            kills += 1
            under_way = [
                path.parts[-3] for path in (killed / "outputs").glob("*/*/v*") if not (path / "manifest.json").exists()
            ]
            place = under_way[0] if under_way else "between stages"
            stages[place] = stages.get(place, 0) + 1
            if kills % 10 == 0:
                print(f"{kills} kills", flush=True)
            wrong += [f"after kill {kills}: {text}" for text in differences(killed / "outputs", expected)]
            continue
        chains += 1
        made = artefacts(killed / "outputs")
        found = [f"exit code {code}"] if code else [f"missing: {name}" for name in {*expected} - {*made}]
        found += differences(killed / "outputs", expected) + [
            f"left behind: {name}" for name in litter(killed / "outputs")
        ]
        wrong += [f"chain {chains}: {text}" for text in found]
        print(f"{kills} kills, {chains} chains finished, {len(wrong)} differences", flush=True)
        if wrong:
            break
        shutil.rmtree(killed)
    told = ", ".join(f"{name} {count}" for name, count in sorted(stages.items(), key=lambda item: -item[1]))
    print(f"killed {kills} times in {time.monotonic() - began:.0f} s (under way: {told})")
    for text in wrong:
        print(f"different: {text}")
    if wrong:
        sys.exit(f"see {root}")
    shutil.rmtree(root)
    print(f"all {chains} chains ended with the files of the undisturbed run")


if __name__ == "__main__":
    main()
