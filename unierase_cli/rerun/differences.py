"""How two files that should be equal differ: not at all, only in numbers and by how much, or in more than numbers.

A difference is relative to the first number if that is larger than 1, so that a tolerance means the same for a share
and for a log-probability of -20.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unierase_cli.store.hashing import hash_file
from unierase_cli.store.json_text import ROWS, parse_json, read_json

if TYPE_CHECKING:
    from torch import Tensor

# Key of durations, which are never equal twice.
CLOCK = "seconds"
NOTHING = object()


@dataclass(frozen=True)
class Difference:
    """A difference between two files or values.

    ``values``: how many numbers (in tensor files: tensors) differ, by at most ``largest``; ``other``: an example of a
    difference that is not between numbers, or "".
    """

    values: int = 0
    largest: float = 0.0
    other: str = ""

    @property
    def same(self) -> bool:
        return not self.values and not self.other


def of_files(then: Path, now: Path) -> Difference:
    """Compare two files: JSON without durations, safetensors by tensor, all others byte by byte."""
    gone = [path for path in (then, now) if not path.is_file()]
    if gone:
        return Difference(other=f"{gone[0]} is missing")
    if then.stat().st_size == now.stat().st_size and hash_file(then) == hash_file(now):
        return Difference()
    try:
        if then.suffix == ".safetensors":
            return _of_tensors(then, now)
        if then.suffix in (".json", ".jsonl"):
            return of_values(_read(then), _read(now))
    except ValueError as error:
        return Difference(other=f"{then.name} cannot be read ({error})")
    return Difference(other="its bytes")


def of_values(then: Any, now: Any) -> Difference:
    """Compare two JSON values number by number."""
    values, largest, other = 0, 0.0, ""
    for place, first, second in _pairs(then, now, ""):
        if _is_number(first) and _is_number(second):
            values, largest = values + 1, max(largest, of_numbers(first, second))
        else:
            other = other or f"{place or 'the whole'}: {_short(first)}, now {_short(second)}"
    return Difference(values, largest, other)


def of_numbers(then: float, now: float) -> float:
    """|now - then| / max(1, |then|); 0 if both are NaN, infinity if one is."""
    if then == now or (math.isnan(then) and math.isnan(now)):
        return 0.0
    found = abs(now - then) / max(1.0, abs(then))
    return found if math.isfinite(found) else math.inf


def _pairs(then: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, with its path."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            if key != CLOCK:
                yield from _pairs(then.get(key, NOTHING), now.get(key, NOTHING), f"{place}.{key}" if place else key)
    elif isinstance(then, list) and isinstance(now, list):
        for index, (first, second) in enumerate(zip_longest(then, now, fillvalue=NOTHING)):
            yield from _pairs(first, second, f"{place}[{index}]")
    elif _is_number(then) and _is_number(now):
        if of_numbers(then, now):
            yield place, then, now
    elif type(then) is not type(now) or then != now:
        yield place, then, now


def _of_tensors(then: Path, now: Path) -> Difference:
    from unierase_cli.store.tensors import load_tensors

    first, second = load_tensors(then), load_tensors(now)
    if unlike := [name for name in {**first, **second} if _kind(first.get(name)) != _kind(second.get(name))]:
        name = unlike[0]
        return Difference(other=f"tensor {name}: {_kind(first.get(name))}, now {_kind(second.get(name))}")
    apart = [found for name, tensor in first.items() if (found := _apart(tensor, second[name])) is not None]
    return Difference(len(apart), max(apart)) if apart else Difference(other="its header")


def _kind(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{list(tensor.shape)} {tensor.dtype}".replace("torch.", "")


def _apart(then: Tensor, now: Tensor) -> float | None:
    """The largest difference between two tensors' numbers, or None if their bits are equal."""
    import torch

    if torch.equal(then.reshape(-1).view(torch.uint8), now.reshape(-1).view(torch.uint8)):
        return None
    first, second = then.double(), now.double()
    apart = (second - first).abs() / first.abs().clamp(min=1.0)
    # Two NaNs count as equal; a single NaN or infinity gives an infinite difference.
    alike = (first == second) | (first.isnan() & second.isnan())
    return float(apart.nan_to_num(nan=math.inf, posinf=math.inf).masked_fill(alike, 0.0).max())


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return read_json(path, ROWS)
    return [parse_json(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = "nothing" if value is NOTHING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
