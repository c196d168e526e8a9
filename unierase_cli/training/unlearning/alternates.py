"""Alternative answers on disk, so that a resumed run trains on the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unierase_cli.store.jsonl import read_jsonl, write_jsonl


def load_alternates(path: Path) -> dict[str, list[str]]:
    """Fact id -> its alternative answers."""
    return {row["fact"]: row["answers"] for row in read_jsonl(path)}


def save_alternates(path: Path, alternates: Mapping[str, Sequence[str]]) -> None:
    """Write what ``load_alternates`` reads, atomically."""
    write_jsonl(path, [{"fact": name, "answers": list(answers)} for name, answers in alternates.items()])
