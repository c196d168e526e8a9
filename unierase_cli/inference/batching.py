"""Batches of rows of similar length, and results restored to row order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeVar

from unierase_cli.sizes import CPU_ROWS, CPU_SCORED_ROWS, GPU_ROWS

T = TypeVar("T")


def choose_batch_size(wanted: int, device_type: str, *, scoring: bool = False) -> int:
    """Rows per batch: ``wanted``, or the device's default for 0; scoring on a CPU is capped, since larger batches are
    no faster.
    """
    if device_type != "cpu":
        return wanted or GPU_ROWS
    if scoring:
        return min(wanted or CPU_SCORED_ROWS, CPU_SCORED_ROWS)
    return wanted or CPU_ROWS


def length_sorted(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of ``batch_size``, longest first: little padding, and memory runs out at once or not
    at all.

    Rows of equal length keep their order, so the plan depends only on the lengths.
    """
    order = iter(sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)))
    return list(_chunks(order, batch_size))


def restored(batches: Sequence[Sequence[int]], results: Sequence[Sequence[T]]) -> list[T]:
    """The results of the batches in row order: ``results[k][j]`` belongs to row ``batches[k][j]``."""
    pairs = [pair for batch, found in zip(batches, results, strict=True) for pair in zip(batch, found, strict=True)]
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


def _chunks(order: Iterator[int], size: int) -> Iterator[list[int]]:
    while batch := list(islice(order, size)):
        yield batch
