"""TensorBoard: event files in ``outputs/tracker/tensorboard``; ``tensorboard --logdir`` shows them. Files are linked as text."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder))
        lines = "\n".join(f"    {key}={value}" for key, value in settings.items())
        self.writer.add_text("configuration", lines)

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{series}/{name}", value, step)

    def finish(self, finals: Mapping[str, float], files: Iterable[Path], ok: bool) -> None:
        for name, value in finals.items():
            self.writer.add_scalar(name, value, 0)
        for path in files:
            self.writer.add_text(f"files/{path.name}", str(path))
        self.writer.close()


def start(folder: Path, name: str, settings: Mapping[str, Any]) -> TensorBoard:
    return TensorBoard(folder / f"{name}_{time.strftime('%Y%m%d-%H%M%S')}", settings)
