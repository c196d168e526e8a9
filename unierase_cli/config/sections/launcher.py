"""How a sweep starts its runs. Not part of an experiment, because results do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import one_of, positive


@dataclass(frozen=True)
class LauncherConfig:
    """Where and how `unierase sweep` starts its runs."""

    name: str = "local"
    """Where runs start: local (processes on this machine) or slurm (a job array, through submitit)."""
    jobs: int = 1
    """Number of runs at a time."""
    cluster: str = "slurm"
    """slurm: slurm, or local to try a sweep without a cluster (submitit runs the jobs on this machine)."""
    partition: str | None = None
    """slurm: partition of the jobs. null: the cluster's default."""
    account: str | None = None
    """slurm: account that the jobs are charged to. null: the cluster's default."""
    minutes: int = 240
    """slurm: time limit per run, in minutes. A run that reaches it is requeued and resumes where it stopped."""
    gpus: int = 1
    """slurm: GPUs per run."""
    cpus: int = 8
    """slurm: CPU cores per run."""
    memory_gib: int = 64
    """slurm: main memory per run, in GiB."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """slurm: additional sbatch options by their long names, for example {qos: long, constraint: h100}."""

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ["local", "slurm"])
        one_of("launcher.cluster", self.cluster, ["slurm", "local"])
        for key in ("jobs", "minutes", "cpus", "memory_gib"):
            positive(f"launcher.{key}", getattr(self, key))
        positive("launcher.gpus", self.gpus, zero=True)
