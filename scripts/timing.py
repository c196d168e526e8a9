"""What measurements share: two versions in turns, the rate of matrix products, and the table's file."""

from __future__ import annotations

import csv
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unierase_cli.store.manifest import git_commit

Call = Callable[[], Any]


def in_turns(theirs: Call, ours: Call, repeats: int) -> tuple[float, float, Any, Any]:
    """Median CPU seconds of both, and their last results."""
    times: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = []
    for _ in range(repeats):
        results = []
        for call, found in zip((theirs, ours), times, strict=True):
            seconds, result = _seconds(call)
            found.append(seconds)
            results.append(result)
    return statistics.median(times[0]), statistics.median(times[1]), results[0], results[1]


def matmul_rate(size: int = 1024, repeats: int = 20) -> float:
    """Multiplications and additions per CPU second of a float32 matrix product; the best of several."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    return max(2 * size**3 / _seconds(lambda: one @ other)[0] for _ in range(repeats))


def write_csv(path: Path, script: str, lines: Sequence[Sequence[str]], seed: int | None = None) -> None:
    """The table with its headings, its command, commit and seed, as ``scripts/tables.py`` reads it."""
    command = shlex.join(["python", "-m", f"scripts.{script}", *sys.argv[1:]])
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# command: {command}\n# commit: {git_commit() or 'not recorded'}\n")
        file.write("" if seed is None else f"# seed: {seed}\n")
        csv.writer(file, lineterminator="\n").writerows(lines)


def _seconds(call: Call) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result
