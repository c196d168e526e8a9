"""The words of a sweep: ``KEY=V1,V2`` and ``KEY=range(0,3)`` are axes, and every choice of one value per axis is a run.

What stands in quotes or brackets is one value: ``eval.splits=[forget,retain_unseen]``, ``model.system='Yes, no.'``; so is
the path of a file that is there, commas in its name or not.
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

# Short names of a few keys, those that the commands have as options.
SHORT = {"seed": "run.seed", "outputs": "run.outputs", "device": "run.device"}
# What all runs of a sweep have in common, and why.
COMMON = {"run.outputs": "the table compares what is in one folder", "launcher": "all runs are started in one way"}
# More values than this on one axis are a slip of the fingers.
LONGEST = 100_000
RANGE = re.compile(r"range\((.*)\)", re.DOTALL)
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True)
class Axis:
    """One word: its key as it was typed, and its values in the order that they were typed. One value is no choice."""

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
    """One run: its words, and the chosen values by the keys that were typed with several."""

    words: tuple[str, ...]
    chosen: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.chosen) or "the only run"


@dataclass(frozen=True)
class Sweep:
    """The axes, and the words that are no ``KEY=VALUE`` at all, which every run gets as they are."""

    axes: tuple[Axis, ...]
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return prod(len(axis.values) for axis in self.axes)

    def __iter__(self) -> Iterator[Combination]:
        """Nested loops in the order of the words: the last one's values change fastest."""
        several = [len(axis.values) > 1 for axis in self.axes]
        for values in product(*(axis.values for axis in self.axes)):
            pairs = list(zip(self.axes, values, strict=True))
            words = (*(axis.word(value) for axis, value in pairs), *self.others)
            yield Combination(words, tuple((a.typed, v) for (a, v), many in zip(pairs, several, strict=True) if many))


def expand(words: Sequence[str]) -> Sweep:
    """Read the words. Raises UserError for an empty value, a value given twice, and what all runs must have in common."""
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
        raise UserError(f"{word} has an empty value", "take out the comma that has nothing beside it")
    values: list[str] = []
    for part in parts:
        found = RANGE.fullmatch(part)
        values += [part] if found is None else map(str, _range(word, found[1]))
    twice = next((v for v, following in zip(sorted(values), sorted(values)[1:], strict=False) if v == following), None)
    if twice is not None:
        raise UserError(f"{word} says {twice} twice", "say each value once")
    return tuple(values)


def _range(word: str, inside: str) -> range:
    try:
        numbers = range(*(int(number) for number in inside.split(",")))
    except (ValueError, TypeError) as error:
        hint = "range(START,STOP) or range(START,STOP,STEP) of whole numbers; STOP is left out"
        raise UserError(f"{word}: that is no range", hint) from error
    if not numbers:
        raise UserError(f"{word} has no value in it", "the second number is left out, range(0,3) is 0,1,2")
    if len(numbers) > LONGEST:
        raise UserError(f"{word} has {len(numbers)} values", "check its end")
    return numbers


def _split(word: str, value: str) -> list[str]:
    """Cut at the commas outside brackets and quotes. A quote opens at a value's start or within brackets, not in ``don't``."""
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
        raise UserError(f"{word} opens a {'quote' if quote else 'bracket'} that it does not close", "quote it: 'KEY=[a,b]'")
    return [*parts, value[start:]]
