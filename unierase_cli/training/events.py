"""Training metrics, written as one line of JSON per step."""

from __future__ import annotations

import json
from pathlib import Path

from unierase_cli.store.whole import write_text
from unierase_cli.training import processes

EVENTS = "events.jsonl"


class Events:
    """Appends to ``events.jsonl`` in a folder (None: writes nothing). Only the first process writes."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None or processes.rank() else directory / EVENTS

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
