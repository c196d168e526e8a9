"""How much runs at a time: as much as is wanted until memory runs out, then half of it, said once; the result stays the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from unierase_cli.models.heap import give_back

# Also for those rooms that may not import the store.
from unierase_cli.store.refusals import is_out_of_memory as is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Room:
    """What fits beside a loaded model. ``most``: what is counted ("answers to score") -> the number that was halved to; what
    never failed has no entry.

    ``tell`` gets one line for each purpose whose size has to shrink, however often it shrinks.
    """

    tell: Callable[[str], None] = lambda _text: None
    most: dict[str, int] = field(default_factory=dict)

    def size(self, purpose: str, wanted: int) -> int:
        """``wanted``, or less where that is known not to fit."""
        return min(wanted, self.most.get(purpose, wanted))

    def halve(self, purpose: str, size: int) -> bool:
        """Take half of ``size`` from now on; False when there is nothing left to halve."""
        if size <= 1:
            return False
        if purpose not in self.most:
            self.tell(f"out of memory with {size} {purpose} at a time: going on with fewer, which changes no result")
        self.most[purpose] = size // 2
        empty_caches()
        return True

    def attempt(self, purpose: str, wanted: int, call: Callable[[int], R]) -> tuple[int, R]:
        """``call(size)`` with ``wanted``, or with half as often as memory runs out; the size that fitted and its result.

        Raises what ``call`` raises, also when memory runs out with a size of one.
        """
        while True:
            size = self.size(purpose, wanted)
            try:
                return size, call(size)
            except Exception as error:
                if not is_out_of_memory(error) or size <= 1:
                    raise
            # Outside of the handler: the error's traceback holds the tensors that filled the memory.
            self.halve(purpose, size)

    def parts(
        self, purpose: str, rows: Sequence[T], call: Callable[[Sequence[T]], R]
    ) -> Iterator[tuple[Sequence[T], R]]:
        """``call`` on consecutive parts of ``rows``, as large as they fit; each part with its result."""
        done = 0
        while done < len(rows):
            start = done
            size, result = self.attempt(purpose, len(rows) - start, lambda size: call(rows[start : start + size]))  # noqa: B023
            done = start + size
            yield rows[start:done], result


def empty_caches() -> None:
    """Give back what is held of freed memory, so that a smaller batch does not fail on a larger one's leavings."""
    give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
