"""MLflow: a local database in ``outputs/tracker/mlflow``, or the server that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unierase_cli.tracking.base import PROJECT

# Numbers of parameters in a request, and of characters in a value, that every server takes.
MOST, LONGEST = 100, 500


class MLflow:
    def __init__(self, client: Any, run: str) -> None:
        self.client, self.run = client, run

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self._send({f"{series}/{name}": value for name, value in values.items()}, step)

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        self._send(finals, 0)
        for path in files:
            self.client.log_artifact(self.run, str(path))
        self.client.set_terminated(self.run, "FINISHED" if ok else "FAILED")

    def _send(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        for first in range(0, len(metrics), MOST):
            self.client.log_batch(self.run, metrics=metrics[first : first + MOST])


def start(folder: Path, name: str, settings: Mapping[str, Any]) -> MLflow:
    from mlflow import MlflowClient
    from mlflow.entities import Param

    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = MlflowClient(tracking_uri=server or f"sqlite:///{folder / 'mlflow.db'}")
    there = client.get_experiment_by_name(PROJECT)
    place = None if server else (folder / "artifacts").as_uri()
    experiment = there.experiment_id if there else client.create_experiment(PROJECT, artifact_location=place)
    run = client.create_run(experiment, run_name=name).info.run_id
    params = [Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
    for first in range(0, len(params), MOST):
        client.log_batch(run, params=params[first : first + MOST])
    return MLflow(client, run)
