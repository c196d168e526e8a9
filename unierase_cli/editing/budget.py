"""The longest step along one direction that stays within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable

# Evaluations at most; factor while a bracket is searched; share of the budget that is close enough.
MOST, FACTOR, CLOSE = 29, 8.0, 0.95


def longest_step(cost: Callable[[float], float], budget: float, start: float) -> tuple[float, float, int]:
    """(step, its cost, evaluations): the longest step found with a cost of at most ``budget``; step 0 if there is none.

    The step is divided or multiplied by 8 until the budget lies between two steps, then bisected geometrically until the cost is
    in [0.95, 1] times the budget. A cost that is not a number counts as over it.
    """
    step, low, high = start, 0.0, math.inf
    best = 0.0
    for count in range(1, MOST + 1):
        found = cost(step)
        if found <= budget:
            low, best = step, found
            if found >= CLOSE * budget:
                return low, best, count
        else:
            high = step
        if math.isinf(high):
            step = low * FACTOR
        else:
            step = high / FACTOR if low == 0 else math.sqrt(low * high)
    return low, best, MOST
