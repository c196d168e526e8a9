"""Checks of configuration values, most of them called by the sections; a failed check raises UserError."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from unierase_cli.contracts import UserError

LARGEST = 2**63 - 1


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is not in ``choices``, and suggest the nearest one."""
    if value in choices:
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f"did you mean {key}={near[0]}?" if near else f"choose one of: {', '.join(choices)}"
    raise UserError(f"{key}={value} is not a choice", hint)


def positive(key: str, value: float, *, zero: bool = False, example: float = 1) -> None:
    """Refuse a number that is not above 0 (``zero``: not at least 0), NaN included; ``example`` is shown in the hint."""
    if value > 0 or (zero and value == 0):
        return
    raise UserError(f"{key}={value} must be {'at least' if zero else 'above'} 0", f"type for example {key}={example:g}")


def number(key: str, value: Any, *, whole: bool = False) -> None:
    """Refuse what is no (``whole``) number, for settings whose default does not show their type."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UserError(f"{key}={value} must be a {'whole ' if whole else ''}number", f"type for example {key}=8")


def fraction(key: str, value: float) -> None:
    """Refuse a number outside [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{key}={value} must lie between 0 and 1", f"type for example {key}=0.5")


def block_numbers(key: str, value: Sequence[int] | None) -> None:
    """Refuse blocks that are not ascending, distinct and at least 0; whether the model has them is checked after loading."""
    if value is None:
        return
    if not isinstance(value, list | tuple) or not all(type(block) is int for block in value):
        raise UserError(f"{key}={value} must be a list of blocks", f"for example {key}=[4,5]")
    if list(value) != sorted(set(value)) or min(value, default=-1) < 0:
        raise UserError(f"{key}={list(value)} must be blocks from 0 up in ascending order, each once", f"for example {key}=[4,5]")


def model_block(key: str, block: int, count: int) -> None:
    """Refuse a block that a model of ``count`` blocks does not have."""
    if block >= count:
        raise UserError(f"{key}={block}: the model has blocks 0 to {count - 1}", f"choose for example {key}={count // 4}")


def complete(defaults: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The defaults updated with ``given``; raises UserError for an unknown setting or one of the wrong type."""
    for key, value in given.items():
        if key not in defaults:
            near = get_close_matches(key, list(defaults), n=1)
            known = f"{name} has {', '.join(defaults) or 'no settings'}"
            raise UserError(f"{name} has no setting {key!r}", f"did you mean {near[0]}?" if near else known)
        _same_kind(f"{name}: {key}", defaults[key], value)
    return {**defaults, **given}


def reference_fits(gib: float, limit: float, how: str) -> None:
    """Refuse to keep more of the reference model than ``unlearn.reference_gib``; ``how``: where the number comes from."""
    if gib > limit:
        raise UserError(
            f"the losses need {gib:.1f} GiB of the reference model {how} (unlearn.reference_gib={limit:g})",
            "add unlearn.reference=second_model, or adapter=lora, or raise unlearn.reference_gib",
        )


def usable(key: str, value: Any) -> None:
    """Refuse values that have the right type but are never valid; goes through sections, lists and mappings.

    These are NaN, infinity, integers beyond 64 bits, text that cannot be written to a file, and unresolved
    interpolations.
    """
    if is_dataclass(value):
        for field in fields(value):
            usable(f"{key}.{field.name}" if key else field.name, getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            usable(f"{key}.{place}", item)
    elif isinstance(value, dict):
        for name, item in value.items():
            usable(key, str(name))
            usable(f"{key}.{name}", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value} is not a finite number", f"type for example {key}=0.5")
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise UserError(f"{key} is a number with more than 64 bits", f"type for example {key}=1")
    elif isinstance(value, str) and (reason := unwritable(value)):
        raise UserError(f"{key}={value!r} {reason}", "check its encoding")
    elif isinstance(value, str) and "${" in value:
        raise UserError(f"{key}={value!r} still has a ${{ in it, which stands for another value", "write the value itself")


def unwritable(value: str) -> str | None:
    """Why a text cannot be written to a file or be a file name, or None if it can."""
    if "\x00" in value:
        return "has a null character"
    return "is not UTF-8" if any("\ud800" <= character <= "\udfff" for character in value) else None


def _same_kind(what: str, default: Any, given: Any) -> None:
    """Refuse a value of another type than a default that is a bool, a number, a text or a list.

    Entries of a list must be of the type of the default's first entry.
    """
    if isinstance(default, list | tuple):
        if not isinstance(given, list | tuple):
            raise UserError(f"{what}={given} must be a list", f"its default is {list(default)}")
        for entry in given if default else ():
            _same_kind(f"{what}: entry", default[0], entry)
        return
    for kind, fits, name in (
        (bool, bool, "true or false"),
        (int, int, "a whole number"),
        (float, int | float, "a number"),
        (str, str, "a text"),
    ):
        if isinstance(default, kind):
            if not isinstance(given, fits) or (kind is not bool and isinstance(given, bool)):
                raise UserError(f"{what}={given} must be {name}", f"its default is {default!r}")
            return
