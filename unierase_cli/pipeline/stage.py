"""What a stage is, and how its key is made.

A stage is a module of ``stages`` with ``NAME``, ``VERSION``, ``reads`` (the slice of the configuration that its result
depends on), ``needs`` (the artefacts it reads), ``fingerprints`` (of data, models and code outside the configuration) and ``run``.
What a stage does with the benchmark it gets through its study, so that the pipeline knows which stages take it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from unierase_cli.config.schema import Experiment
from unierase_cli.contracts import Reporter
from unierase_cli.pipeline.stage_table import STAGES
from unierase_cli.pipeline.study import Study
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.hashing import hash_json

# Bytes of a slug; most file systems take 255.
LONGEST_SLUG = 200
# Not stages of a run, but artefacts over many.
COMPARISON, AUDITS = "comparison", "audits"


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

    study: Study
    directory: Path
    inputs: dict[str, Artefact]
    reporter: Reporter
    options: dict[str, str] = field(default_factory=dict)
    resuming: bool = False

    @property
    def experiment(self) -> Experiment:
        return self.study.experiment


class Stage(Protocol):
    """A module of ``stages``. Optional: ``check(study)`` raises UserError for what the stage would refuse once it runs; it is asked
    before any stage runs, and may import torch.
    """

    NAME: str
    VERSION: int

    def reads(self, study: Study, options: dict[str, str]) -> dict[str, Any]: ...

    def needs(self, study: Study, options: dict[str, str]) -> dict[str, Request]: ...

    def fingerprints(self, study: Study, options: dict[str, str]) -> dict[str, str]: ...

    def run(self, context: StageContext) -> dict[str, Any]: ...


def load_stage(name: str) -> Stage:
    """The stage's module; heavy libraries are imported by it only when it runs."""
    return cast(Stage, importlib.import_module(f"unierase_cli.stages.{name}"))


def slug(experiment: Experiment, stage: str, options: dict[str, str]) -> str:
    """Readable folder name: benchmark, model, method, mode, seed, as far as the stage depends on them."""
    parts = STAGES[stage].named(experiment, options)
    if "step" in options:
        parts.append(f"step{int(options['step']):03d}")
    text = "_".join([*parts, f"seed{experiment.run.seed}"]).lower()
    text = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    if len(text.encode("utf-8")) <= LONGEST_SLUG:
        return text
    # Names are free; what file systems take is not.
    return f"{text[: LONGEST_SLUG // 4]}-{hash_json(text)[:12]}"
