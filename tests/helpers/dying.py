"""A process that is killed at a chosen operation on files, for tests of what it leaves behind.

``python -m tests.helpers.dying FOLDER`` runs the demo's whole chain on a tiny model, first undisturbed and then killed again and
again, and prints what it found as JSON. Each run is a fork of one process that has imported everything and computed nothing: it
dies by SIGKILL like any other, without a handler, a ``finally`` or a flush.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

from tests.helpers.places import ROOT
from unierase_cli.config.compose import compose
from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import SilentReporter
from unierase_cli.pipeline.pipeline import Pipeline
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

# The chain that the real kills are tried on (finetune, train_token, moments, erase, observe twice, score, report), and what must
# come out the same of it.
KILLS = run_path(str(ROOT / "scripts" / "kill_test.py"))
payload = KILLS["payload"]
# Still less of everything: a few seconds.
TINY = (
    *KILLS["TINY"], "train.epochs=2", "edit.values.steps=2", "token.refine_rounds=1", "protocol.max_new_tokens=4",
    "token.stages=[{formats: [chat], epochs: 2, least_steps: 2}, {formats: [chat], epochs: 2, least_steps: 2, noise: 0.2}]",
    "eval.splits=[forget,retain_unseen]", "eval.forget_variants=[unlearn_forbidden]", "run.outputs=outputs",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
# At which of its operations the n-th run dies. Later each time, so that every run gets a little further; near the start of what
# is left, where versions are opened and taken up; and at wide steps.
SCHEDULES: dict[str, Callable[[int], int]] = {
    "rising": lambda n: 3 * n,
    "wide": lambda n: 29 + 5 * n,
}


class Deadline:
    """Counts the operations on files below a folder, and kills the process before the one that is named.

    ``torn``: what was being written then is left half written.
    """

    def __init__(self, root: Path, at: int | None, torn: bool = False) -> None:
        self.root, self.at, self.torn, self.count = str(root.resolve()), at, torn, 0
        self.open: tuple[str, int] | None = None

    def start(self) -> None:
        """Count from here on, for as long as this process lives: what hears of its operations cannot be taken away again."""
        import safetensors.torch

        fsync, serialize = os.fsync, safetensors.torch.serialize_file

        def counted_fsync(descriptor: int) -> None:
            # Of a file that is being written; what was written before is whole, on the disk or not.
            if self.open and os.path.realpath(f"/proc/self/fd/{descriptor}") == self.open[0]:
                self.pass_by(self.open[0], keep=True)
            fsync(descriptor)

        def counted_serialize(tensors: Any, path: str, *rest: Any, **more: Any) -> None:
            if self.at == self.count + 1 and self.torn and self._inside(path):
                # How the library itself leaves a file that it was killed over.
                Path(path).with_name(".tmpXk2Q9z").write_bytes(b"\x10\0\0\0")
            self.pass_by(path)
            serialize(tensors, path, *rest, **more)

        os.fsync = counted_fsync
        safetensors.torch.serialize_file = counted_serialize
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITING and self._inside(path):
                self.pass_by(path)
                kept = os.path.getsize(path) if not flags & os.O_TRUNC and os.path.exists(path) else 0
                self.open = (os.path.abspath(os.fsdecode(path)), kept)
        elif event in CHANGING:
            self.pass_by(arguments[0])

    def pass_by(self, path: Any, keep: bool = False) -> None:
        if not self._inside(path):
            return
        self.count += 1
        if self.count == self.at:
            if self.torn and self.open and os.path.exists(self.open[0]):
                name, kept = self.open
                os.truncate(name, kept + (os.path.getsize(name) - kept) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if not keep:
            self.open = None

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.root + os.sep)


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a copy of this process; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_chain(experiment: Experiment, deadline: Deadline) -> None:
    """All stages, in the current folder."""
    deadline.start()
    Pipeline(experiment, SilentReporter()).make("report")


def visible(store: Store) -> Iterator[tuple[str, Artefact]]:
    """Everything that a reader takes for complete, as ``stage/slug`` and the artefact."""
    for artefact in store.list():
        yield artefact.path.parent.relative_to(store.root).as_posix(), artefact


def killed_again_and_again(
    experiment: Experiment, folder: Path, wanted: dict[str, dict[str, bytes]], every: Callable[[int], int]
) -> dict[str, Any]:
    """Kill the n-th run at its ``every(n)``-th operation until one comes through; what differs from the undisturbed run then,
    and what a reader saw of it in between."""
    folder.mkdir()
    os.chdir(folder)
    store, deaths, seen = Store("outputs"), 0, []
    while True:
        code = fork(partial(run_chain, experiment, Deadline(folder, every(deaths + 1), torn=deaths % 2 == 1)))
        if code != -signal.SIGKILL:
            break
        deaths += 1
        seen += [f"{name} after {deaths} deaths" for name, a in visible(store) if payload(a.path) != wanted[name]]
    made = {name: payload(artefact.path) for name, artefact in visible(store)}
    return {
        "code": code,
        "deaths": deaths,
        "half_seen": seen,
        "missing": sorted({*wanted} - {*made}),
        "differing": [
            f"{name}/{file}"
            for name in made
            for file in sorted({*made[name], *wanted[name]})
            if made[name].get(file) != wanted[name].get(file)
        ],
        "litter": sorted(
            p.relative_to("outputs").as_posix() for p in Path("outputs").glob("*/*/*") if p.name != "v001"
        ),
    }


def preload() -> Experiment:
    """Import and read all that the stages import and read, so that no fork has to."""
    import importlib

    import matplotlib
    import rouge_score.rouge_scorer  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    matplotlib.use("agg")
    import matplotlib.pyplot

    for name in (
        "results.one_run.collateral", "models.mini", "models.load", "training.supervised", "training.token.learning",
        "editing.edit",
        "inference.generate", "methods.unierase", "metrics.compare", "metrics.catalog",
    ):  # fmt: skip
        importlib.import_module(f"unierase_cli.{name}")
    experiment = compose(list(TINY))
    Pipeline(experiment, SilentReporter()).plan("report")
    # Every stage of every fork collects garbage; what stays for good is not searched each time.
    gc.collect()
    gc.freeze()
    return experiment


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    experiment = preload()
    whole = root / "whole"
    whole.mkdir(parents=True)
    os.chdir(whole)

    def undisturbed() -> None:
        deadline = Deadline(whole, None)
        run_chain(experiment, deadline)
        Path("operations").write_text(str(deadline.count))

    if fork(undisturbed):
        sys.exit("the undisturbed run failed")
    wanted = {name: payload(artefact.path) for name, artefact in visible(Store("outputs"))}
    found: dict[str, Any] = {"operations": int(Path("operations").read_text()), "stages": sorted(wanted)}
    for name, every in SCHEDULES.items():
        found[name] = killed_again_and_again(experiment, root / name, wanted, every)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
