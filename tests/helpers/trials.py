"""A program that is right, its tests, and the limits that it is tried within."""

from __future__ import annotations

from unierase_cli.inference.sandbox.sandbox import Limits

TESTS = "def check(candidate):\n    assert candidate(20) == 21\n    assert candidate(-1) == 0\n"
RIGHT = "def after(n):\n    return n + 1\n"
# Every program on trial runs under these, whatever else it gets around.
LIMITS = Limits(seconds=2.0, memory_mib=256)
