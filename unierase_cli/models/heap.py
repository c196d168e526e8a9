"""Returns freed memory to the system; imports no torch."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Run the garbage collector and return free heap pages, which glibc otherwise keeps for reuse."""
    gc.collect()
    trim()


def trim() -> None:
    """Return free heap pages to the system; cheap enough for a training loop, whose batches differ in shape."""
    with suppress(OSError, AttributeError, TypeError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
