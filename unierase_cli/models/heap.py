"""Giving freed memory back to the system. Imports no torch."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Collect what nobody holds and return the heap's free pages, which glibc else keeps for requests of the same sizes."""
    gc.collect()
    trim()


def trim() -> None:
    """Return the heap's free pages to the system; cheap enough for a training loop, whose batches differ in shape."""
    with suppress(OSError, AttributeError, TypeError):  # other C libraries have no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
