"""Checks that config sections make of their own values; a failed check is a user's mistake."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from unierase_cli.contracts import UserError


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is not among ``choices``, naming the nearest one."""
    if value in choices:
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f"did you mean {key}={near[0]}?" if near else f"choose one of: {', '.join(choices)}"
    raise UserError(f"{key}={value} is not a choice", hint)


def positive(key: str, value: float, *, zero: bool = False) -> None:
    """Refuse a number that is not above zero (or not at least zero), NaN included."""
    if value > 0 or (zero and value == 0):
        return
    raise UserError(f"{key}={value} must be {'at least' if zero else 'above'} 0", f"type for example {key}=1")


def fraction(key: str, value: float) -> None:
    """Refuse a number outside [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{key}={value} must lie between 0 and 1", f"type for example {key}=0.5")
