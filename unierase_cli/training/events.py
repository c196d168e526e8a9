"""Training metrics, written as one line of JSON per step and, optionally, for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.whole import write_text
from unierase_cli.training import processes

EVENTS = "events.jsonl"


def check_tensorboard() -> None:
    """Raise UserError if the tensorboard package is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "unlearn.tensorboard=true needs the package tensorboard", "pip install 'unierase[tensorboard]', or leave it out"
        ) from None


class Events:
    """Appends to ``events.jsonl`` in a folder (None: writes nothing). Only the first process writes."""

    def __init__(self, directory: Path | None, tensorboard: bool = False) -> None:
        """Raises UserError if TensorBoard is requested but not installed."""
        self._path = None if directory is None or processes.rank() else directory / EVENTS
        self._writer: Any = None
        if tensorboard and self._path is not None:
            check_tensorboard()
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._path.parent))

    def cut(self, step: int) -> None:
        """Drop events after ``step``, which a resumed run writes again."""
        if self._path is not None and self._path.exists():
            lines = self._path.read_text("utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            write_text(self._path, "".join(kept))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the values of a step."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
