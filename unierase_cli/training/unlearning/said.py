"""A model's own answers as training targets, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from unierase_cli.store.jsonl import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Said:
    """An answer; ``ends``: whether the model ended it itself, rather than being cut at a limit."""

    text: str
    ends: bool


def load_said(path: Path) -> dict[str, Said]:
    """Fact id -> its answer."""
    return {row["fact"]: Said(row["text"], row["ends"]) for row in read_jsonl(path)}


def save_said(path: Path, answers: Mapping[str, Said]) -> None:
    """Write what ``load_said`` reads, atomically."""
    write_jsonl(path, [{"fact": name, **asdict(said)} for name, said in answers.items()])
