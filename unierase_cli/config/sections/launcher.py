"""How a sweep starts its runs. Not part of an experiment, because results do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import one_of, positive
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class LauncherConfig:
    """Where and how `unierase sweep` starts its runs."""

    name: str = "local"
    """Where runs start: local (processes on this machine), slurm (a job array, through submitit) or ray (tasks on an existing Ray
    cluster).
    """
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
    gpus: int | None = 1
    """slurm, ray: GPUs per run. null (ray): 1 if the cluster has GPUs and run.device is not cpu, else 0."""
    cpus: int = 8
    """slurm, ray: CPU cores per run."""
    memory_gib: int | None = 64
    """slurm, ray: main memory per run, in GiB. null (ray): as estimated; with a GPU, what loading the model takes."""
    retries: int = 3
    """ray: how often a run is started again whose worker or node died; it resumes where it stopped. -1: always."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """slurm: additional sbatch options by their long names, for example {qos: long, constraint: h100}."""

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ["local", "slurm", "ray"])
        one_of("launcher.cluster", self.cluster, ["slurm", "local"])
        for key in ("jobs", "minutes", "cpus"):
            positive(f"launcher.{key}", getattr(self, key))
        for key, zero in (("memory_gib", False), ("gpus", True)):
            value = getattr(self, key)
            if value is not None:
                positive(f"launcher.{key}", value, zero=zero)
            elif self.name == "slurm":
                raise UserError(f"launcher.{key}=null: Slurm must be told a number", f"type for example launcher.{key}=1")
        if self.retries < -1:
            raise UserError(f"launcher.retries={self.retries} must be at least 0, or -1", "type for example launcher.retries=3")
