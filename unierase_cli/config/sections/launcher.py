"""Where the runs of a sweep are started. No part of an experiment: a result does not depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import one_of, positive


@dataclass(frozen=True)
class LauncherConfig:
    """Where and how `unierase sweep` starts its runs."""

    name: str = "local"
    """Where runs are started: local (processes on this machine) or slurm (a job array, through submitit)."""
    jobs: int = 1
    """Runs at a time."""
    cluster: str = "slurm"
    """slurm: the cluster, slurm or local (submitit's stand-in on this machine, to try a sweep without a cluster)."""
    partition: str | None = None
    """slurm: partition of the jobs. null: the cluster's default."""
    account: str | None = None
    """slurm: account that the jobs are charged to. null: the cluster's default."""
    minutes: int = 240
    """slurm: time limit of each run, in minutes. A run that reaches it is queued again and continues where it was."""
    gpus: int = 1
    """slurm: GPUs of each run."""
    cpus: int = 8
    """slurm: CPU cores of each run."""
    memory_gib: int = 64
    """slurm: main memory of each run, in GiB."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """slurm: further options of sbatch by their long names, for example {qos: long, constraint: h100}."""

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ["local", "slurm"])
        one_of("launcher.cluster", self.cluster, ["slurm", "local"])
        for key in ("jobs", "minutes", "cpus", "memory_gib"):
            positive(f"launcher.{key}", getattr(self, key))
        positive("launcher.gpus", self.gpus, zero=True)
