"""What a stage is, and how its key is made.

A stage is a module of ``stages`` with ``NAME``, ``VERSION``, ``reads`` (the part of the configuration that its result
depends on), ``needs`` (the artefacts it reads), ``fingerprints`` (of data, models and code outside the configuration)
and ``run``. A stage gets the benchmark through its study, so that the pipeline knows which stages use it.
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

# Bytes of a slug; most file systems allow 255.
LONGEST_SLUG = 200
# Not stages of a run: artefacts over many runs.
COMPARISON, AUDITS, LEADERBOARD = "comparison", "audits", "leaderboard"


@dataclass(frozen=True)
class Request:
    """A stage with the options that distinguish its variants, e.g. observe of the base or of the edited model."""

    stage: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, str]:
        return dict(self.options)

    def __str__(self) -> str:
        return self.stage + "".join(f" {value}" for _, value in self.options)


@dataclass
class StageContext:
    """The arguments of a stage's ``run``; its files go to ``directory``, which may have some already if ``resuming``."""

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
    """A module of ``stages``.

    Optional: ``check(study)`` raises UserError for what the stage would refuse when run. It is called before any stage
    runs and may import torch. ``also(store, keys)``: finished artefacts, by name, that the result shows where they exist. They come
    with the inputs (``keys``: theirs by name), count in the key, and are never made for it.
    """

    NAME: str
    VERSION: int

    def reads(self, study: Study, options: dict[str, str]) -> dict[str, Any]: ...

    def needs(self, study: Study, options: dict[str, str]) -> dict[str, Request]: ...

    def fingerprints(self, study: Study, options: dict[str, str]) -> dict[str, str]: ...

    def run(self, context: StageContext) -> dict[str, Any]: ...


def load_stage(name: str) -> Stage:
    """The stage's module; it imports heavy libraries only when it runs."""
    return cast(Stage, importlib.import_module(f"unierase_cli.stages.{name}"))


def slug(experiment: Experiment, stage: str, options: dict[str, str]) -> str:
    """Readable folder name from benchmark, model, method, mode and seed, as far as the stage depends on them."""
    parts = STAGES[stage].named(experiment, options)
    if "step" in options:
        parts.append(f"step{int(options['step']):03d}")
    text = "_".join([*parts, f"seed{experiment.run.seed}"]).lower()
    text = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    if len(text.encode("utf-8")) <= LONGEST_SLUG:
        return text
    # Names may be longer than file systems allow.
    return f"{text[: LONGEST_SLUG // 4]}-{hash_json(text)[:12]}"
