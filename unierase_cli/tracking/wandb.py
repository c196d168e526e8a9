"""Weights & Biases, offline unless ``WANDB_MODE`` says otherwise; ``wandb sync`` sends an offline run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unierase_cli.tracking.base import PROJECT

# Where wandb stages the files of an offline run, and what it has downloaded.
PLACES = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}


class WeightsAndBiases:
    def __init__(self, run: Any) -> None:
        self.run, self.known = run, set[str]()

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        # wandb's own step may never go back, and every series starts at 1.
        if series not in self.known:
            self.known.add(series)
            self.run.define_metric(f"{series}/step", hidden=True)
            self.run.define_metric(f"{series}/*", step_metric=f"{series}/step")
        self.run.log({f"{series}/step": step, **{f"{series}/{name}": value for name, value in values.items()}})

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        import wandb

        self.run.summary.update(dict(finals))
        report = wandb.Artifact(f"report-{self.run.id}", type="report")
        for path in files:
            report.add_file(str(path))
        if report.manifest.entries:
            self.run.log_artifact(report)
        self.run.finish(exit_code=0 if ok else 1)


def start(folder: Path, name: str, settings: Mapping[str, Any]) -> WeightsAndBiases:
    # Read when wandb is used; otherwise it keeps a copy of the report in the home folder.
    for variable, place in PLACES.items():
        os.environ.setdefault(variable, str(folder / place))
    import wandb

    mode: Any = os.environ.get("WANDB_MODE", "offline")
    # Neither our output, nor our code, nor the state of the machine.
    quiet = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    return WeightsAndBiases(
        wandb.init(project=PROJECT, name=name, dir=str(folder), mode=mode, config=dict(settings), settings=quiet)
    )
