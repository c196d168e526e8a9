"""How much to run at a time: as much as requested, halved when memory runs out; results stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from unierase_cli.models.heap import give_back

# Re-exported for rooms that may not import the store.
from unierase_cli.store.refusals import is_out_of_memory as is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Room:
    """The sizes that fit beside a loaded model.

    ``most``: what is counted ("answers to score") -> the size it was halved to; sizes that never failed have no entry.
    ``tell`` gets one line for each purpose whose size has to shrink, however often it shrinks.
    """

    tell: Callable[[str], None] = lambda _text: None
    most: dict[str, int] = field(default_factory=dict)

    def size(self, purpose: str, wanted: int) -> int:
        """``wanted``, or less if that is known not to fit."""
        return min(wanted, self.most.get(purpose, wanted))

    def halve(self, purpose: str, size: int) -> bool:
        """Halve ``size`` from now on; False if it cannot be halved."""
        if size <= 1:
            return False
        if purpose not in self.most:
            self.tell(f"out of memory with {size} {purpose} at a time: continuing with fewer; results do not change")
        self.most[purpose] = size // 2
        empty_caches()
        return True

    def attempt(self, purpose: str, wanted: int, call: Callable[[int], R]) -> tuple[int, R]:
        """Call ``call(size)`` with ``wanted``, halved while memory runs out; returns the size that fitted and the
        result.

        Raises what ``call`` raises, including out of memory at size one.
        """
        while True:
            size = self.size(purpose, wanted)
            try:
                return size, call(size)
            except Exception as error:
                if not is_out_of_memory(error) or size <= 1:
                    raise
            # Outside the handler, since the error's traceback holds the tensors that filled the memory.
            self.halve(purpose, size)

    def parts(
        self, purpose: str, rows: Sequence[T], call: Callable[[Sequence[T]], R]
    ) -> Iterator[tuple[Sequence[T], R]]:
        """Yield consecutive parts of ``rows``, as large as they fit, each with the result of ``call``."""
        done = 0
        while done < len(rows):
            start = done
            size, result = self.attempt(purpose, len(rows) - start, lambda size: call(rows[start : start + size]))  # noqa: B023
            done = start + size
            yield rows[start:done], result


def empty_caches() -> None:
    """Release cached memory, so that a smaller batch does not fail because of what a larger one left."""
    give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
