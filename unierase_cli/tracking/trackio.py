"""Trackio: a local database in ``outputs/tracker/trackio`` unless ``TRACKIO_DIR`` names another; ``trackio show`` opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unierase_cli.tracking.base import PROJECT


class Trackio:
    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self.run.log({f"{series}/{name}": value for name, value in values.items()}, step=step)

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        self.run.log({**finals, "final/ok": float(ok)})
        for path in files:
            self.run.log_artifact(path, name=path.name, type="report")
        self.run.finish()


def start(folder: Path, name: str, settings: Mapping[str, Any]) -> Trackio:
    # Read when trackio is imported.
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    import trackio

    config = {key.replace(".", "/"): value for key, value in settings.items()}
    return Trackio(
        trackio.init(PROJECT, name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False)
    )
