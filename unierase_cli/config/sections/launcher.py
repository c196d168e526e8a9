"""Where the runs of a sweep are started. No part of an experiment: a result does not depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import one_of, positive


@dataclass(frozen=True)
class LauncherConfig:
    # local (processes on this machine) | slurm (a job array, through submitit)
    name: str = "local"
    # Runs at a time.
    jobs: int = 1
    # From here on for slurm. slurm | local: submitit's stand-in on this machine, to try a sweep without a cluster
    cluster: str = "slurm"
    partition: str | None = None
    account: str | None = None
    # Limit of each run; one that is cut off is queued again and goes on where it was.
    minutes: int = 240
    # Of each run.
    gpus: int = 1
    cpus: int = 8
    memory_gib: int = 64
    # Further options of sbatch by their long names, e.g. {qos: long, constraint: h100}.
    sbatch: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ["local", "slurm"])
        one_of("launcher.cluster", self.cluster, ["slurm", "local"])
        for key in ("jobs", "minutes", "cpus", "memory_gib"):
            positive(f"launcher.{key}", getattr(self, key))
        positive("launcher.gpus", self.gpus, zero=True)
