"""What a stage is, and how its key is made.

A stage is a module of ``stages`` with ``NAME``, ``VERSION``, ``reads`` (the slice of the configuration that its result
depends on), ``needs`` (the artefacts it reads), ``fingerprints`` (of data and models outside the configuration) and ``run``.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from unierase_cli.benchmarks.base import load_benchmark
from unierase_cli.benchmarks.parts.built_for import check_model
from unierase_cli.config.schema import Experiment
from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.contracts import Benchmark, Reporter
from unierase_cli.models.fingerprint import local_fingerprint
from unierase_cli.modes.requests import read_tasks
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.hashing import hash_json
from unierase_cli.store.unlearned import forgotten_in

STAGES = (
    "ask", "prepare", "finetune", "train_token", "moments", "erase", "observe", "observe_facts", "probe", "general", "score",
    "trajectory", "precise", "report",
)  # fmt: skip
# Bytes of a slug; most file systems take 255.
LONGEST_SLUG = 200
# Those whose artefacts belong to an edit, and are called by its method and mode.
OF_AN_EDIT = ("erase", "observe_facts", "score", "trajectory", "precise", "report")
# Not a stage of a run, but an artefact over many.
COMPARISON = "comparison"


@dataclass(frozen=True)
class Request:
    """A stage with the options that tell its variants apart, e.g. observe of the base or of the edited model."""

    stage: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, str]:
        return dict(self.options)

    def __str__(self) -> str:
        return self.stage + "".join(f" {value}" for _, value in self.options)


@dataclass
class StageContext:
    """All that a stage's ``run`` gets. Its payload goes into ``directory``; with ``resuming``, parts of it may be there."""

    experiment: Experiment
    directory: Path
    inputs: dict[str, Artefact]
    reporter: Reporter
    options: dict[str, str] = field(default_factory=dict)
    resuming: bool = False


class Stage(Protocol):
    """A module of ``stages``. Optional: ``check(experiment)`` raises UserError for what the stage would refuse once it runs; it is
    asked before any stage runs, and may import torch. ``READS_BENCHMARK``: the benchmark's notes are told and kept in the manifest.
    """

    NAME: str
    VERSION: int

    def reads(self, experiment: Experiment, options: dict[str, str]) -> dict[str, Any]: ...

    def needs(self, experiment: Experiment, options: dict[str, str]) -> dict[str, Request]: ...

    def fingerprints(self, experiment: Experiment, options: dict[str, str]) -> dict[str, str]: ...

    def run(self, context: StageContext) -> dict[str, Any]: ...


def load_stage(name: str) -> Stage:
    """The stage's module; heavy libraries are imported by it only when it runs."""
    return cast(Stage, importlib.import_module(f"unierase_cli.stages.{name}"))


def slug(experiment: Experiment, stage: str, options: dict[str, str]) -> str:
    """Readable folder name: benchmark, model, method, mode, seed, as far as the stage depends on them."""
    parts = [f"{experiment.benchmark.name}-{experiment.benchmark.split}", experiment.model.name]
    if stage == "finetune":
        parts = [experiment.model.name, f"{experiment.benchmark.name}-{experiment.train.split}"]
    elif stage in ("ask", "prepare"):
        parts = [experiment.benchmark.name, experiment.model.name]
    elif stage == "train_token":
        parts.append(f"token-{experiment.token.name}")
    elif stage == "moments":
        parts.append("moments")
    elif stage in OF_AN_EDIT or options.get("state") == "edited":
        parts += [experiment.method.name, experiment.mode.name + (f"-{experiment.mode.suite}" if experiment.mode.suite else "")]
    if options.get("state") == "base":
        parts.append("base")
    if "step" in options:
        parts.append(f"step{int(options['step']):03d}")
    text = "_".join([*parts, f"seed{experiment.run.seed}"]).lower()
    text = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    if len(text.encode("utf-8")) <= LONGEST_SLUG:
        return text
    # Names are free; what file systems take is not.
    return f"{text[: LONGEST_SLUG // 4]}-{hash_json(text)[:12]}"


def benchmark_of(experiment: Experiment) -> Benchmark:
    """The experiment's benchmark, loaded once per process and configuration; a file of requests (``mode.tasks``) says what is
    forgotten in the place of its split, and the model's folder what it forgot before. The pipeline tells its notes.

    Raises UserError for a model that the benchmark was not built for, and for a file of requests that can't be read.
    """
    tasks = read_tasks(experiment.mode)
    forget = None if tasks is None else tuple(name for task in tasks for name in task)
    path = experiment.model.path
    forgotten = forgotten_in(Path(path)) if path is not None and Path(path).is_dir() else ()
    benchmark = _benchmark(json.dumps(asdict(experiment.benchmark), sort_keys=True), forget, forgotten)
    check_model(benchmark, experiment.benchmark, experiment.model, lambda: local_fingerprint(path))
    return benchmark


@cache
def _benchmark(config: str, forget: tuple[str, ...] | None, forgotten: tuple[str, ...]) -> Benchmark:
    return load_benchmark(BenchmarkConfig(**json.loads(config)), forget=forget, forgotten=forgotten)
