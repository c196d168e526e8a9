"""The words of a sweep: ``KEY=V1,V2`` and ``KEY=range(0,3)`` are axes, and every combination of their values is a run.

Text in quotes or brackets is one value: ``eval.splits=[forget,retain_unseen]``, ``model.system='Yes, no.'``. So is the
path of an existing file, even with commas in its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from unierase_cli.config.overrides import WORD
from unierase_cli.contracts import UserError

# Short names of keys that the commands also have as options.
SHORT = {"seed": "run.seed", "outputs": "run.outputs", "device": "run.device"}
# What all runs of a sweep must share, and why.
COMMON = {"run.outputs": "the table compares runs in one folder", "launcher": "all runs are started in the same way"}
# More values than this on one axis are a typo.
LONGEST = 100_000
RANGE = re.compile(r"range\((.*)\)", re.DOTALL)
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True)
class Axis:
    """One word: its key as typed, and its values in the order typed. One value is no choice."""

    typed: str
    values: tuple[str, ...]
    prefix: str = ""

    @property
    def key(self) -> str:
        return SHORT.get(self.typed, self.typed)

    def word(self, value: str) -> str:
        return f"{self.prefix}{self.key}={value}"


@dataclass(frozen=True)
class Combination:
    """One run: its words, and the chosen values of the keys that have several."""

    words: tuple[str, ...]
    chosen: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.chosen) or "the only run"


@dataclass(frozen=True)
class Sweep:
    """The axes, and the words that are not ``KEY=VALUE``, which every run gets unchanged."""

    axes: tuple[Axis, ...]
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return prod(len(axis.values) for axis in self.axes)

    def __iter__(self) -> Iterator[Combination]:
        """Nested loops in the order of the words; the last word changes fastest."""
        several = [len(axis.values) > 1 for axis in self.axes]
        for values in product(*(axis.values for axis in self.axes)):
            pairs = list(zip(self.axes, values, strict=True))
            words = (*(axis.word(value) for axis, value in pairs), *self.others)
            yield Combination(words, tuple((a.typed, v) for (a, v), many in zip(pairs, several, strict=True) if many))


def expand(words: Sequence[str]) -> Sweep:
    """Parse the words; raises UserError for empty values, repeated values, and keys that all runs must share."""
    axes, others = [], []
    for word in words:
        match = WORD.fullmatch(word)
        if match is None or match["value"] is None:
            others.append(word)
        else:
            axes.append(Axis(match["key"], _values(word, match["value"]), match["prefix"] or ""))
    seen: dict[str, Axis] = {}
    for axis in axes:
        before = seen.setdefault(axis.key, axis)
        if before is not axis and max(len(before.values), len(axis.values)) > 1:
            said = f"{before.typed}={','.join(before.values)} and {axis.typed}={','.join(axis.values)}"
            raise UserError(f"{axis.key} is given twice: {said}", f"put all values into one word: {axis.typed}=A,B")
        common = COMMON.get(axis.key) or COMMON.get(axis.key.partition(".")[0])
        if common and len(axis.values) > 1:
            raise UserError(f"{axis.typed} cannot be swept: {common}", f"keep one of them: {axis.typed}={axis.values[0]}")
    return Sweep(tuple(axes), tuple(others))


def _values(word: str, value: str) -> tuple[str, ...]:
    if "," in value and os.path.exists(os.path.expanduser(value)):
        return (value,)
    parts = [part.strip() for part in _split(word, value)]
    if len(parts) > 1 and not all(parts):
        raise UserError(f"{word} has an empty value", "remove the extra comma")
    values: list[str] = []
    for part in parts:
        found = RANGE.fullmatch(part)
        values += [part] if found is None else map(str, _range(word, found[1]))
    twice = next((v for v, following in zip(sorted(values), sorted(values)[1:], strict=False) if v == following), None)
    if twice is not None:
        raise UserError(f"{word} gives {twice} twice", "give each value once")
    return tuple(values)


def _range(word: str, inside: str) -> range:
    try:
        numbers = range(*(int(number) for number in inside.split(",")))
    except (ValueError, TypeError) as error:
        hint = "range(START,STOP) or range(START,STOP,STEP) of whole numbers; STOP is excluded"
        raise UserError(f"{word} is not a range", hint) from error
    if not numbers:
        raise UserError(f"{word} has no values", "the second number is excluded: range(0,3) is 0,1,2")
    if len(numbers) > LONGEST:
        raise UserError(f"{word} has {len(numbers)} values", "check its end")
    return numbers


def _split(word: str, value: str) -> list[str]:
    """Split at commas outside brackets and quotes. A quote opens only at the start of a value or in brackets, not in ``don't``."""
    parts, start, depth, quote = [], 0, 0, ""
    for index, character in enumerate(value):
        if quote:
            quote = "" if character == quote and value[index - 1] != "\\" else quote
        elif character in QUOTES and (depth or not value[start:index].strip()):
            quote = character
        elif character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth = max(0, depth - 1)
        elif character == "," and not depth:
            parts.append(value[start:index])
            start = index + 1
    if (quote or depth) and "," in value[start:]:
        raise UserError(f"{word} has an unclosed {'quote' if quote else 'bracket'}", "quote it: 'KEY=[a,b]'")
    return [*parts, value[start:]]
