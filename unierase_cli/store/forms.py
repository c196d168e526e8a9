"""Whether data from a file has the form that its reader counts on: told before it is used, not by what it breaks."""

from __future__ import annotations

import math
from typing import Any

# A type; [form]: a list of it; {str: form}: an object of it; {"name": form, "name?": form}: an object with these keys, and perhaps
# those with a question mark; (form, form): either.
Form = Any


def misfit(value: Any, form: Form, place: str = "") -> str | None:
    """What is wrong, with its place (``inputs.base.path is no text``); None if the value has the form.

    A number is finite, and true and false are none. Keys that the form does not name are free.
    """
    if isinstance(form, tuple):
        wrong = [misfit(value, one, place) for one in form]
        return None if None in wrong else wrong[0]
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{place or 'it'} is no list"
        return next((w for n, item in enumerate(value) if (w := misfit(item, form[0], f"{place}[{n}]"))), None)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{place or 'it'} is no object"
        return next((w for key, part in _parts(value, form) if (w := _of_key(value, key, part, place))), None)
    return None if _is(value, form) else f"{place or 'it'} is {NAMES[form]}"


NAMES: dict[Any, str] = {
    str: "no text", int: "no whole number", float: "no number", bool: "neither true nor false", dict: "no object",
    list: "no list", None: "not null",
}  # fmt: skip


def _parts(value: dict[str, Any], form: dict[Any, Form]) -> list[tuple[str, Form]]:
    if str in form:
        return [(key, form[str]) for key in value]
    return list(form.items())


def _of_key(value: dict[str, Any], key: str, form: Form, place: str) -> str | None:
    name = key.removesuffix("?")
    spot = f"{place}.{name}" if place else name
    if key in value or name in value:
        return misfit(value[key if key in value else name], form, spot)
    return None if key.endswith("?") else f"{spot} is missing"


def _is(value: Any, form: Form) -> bool:
    if form is None:
        return value is None
    if form is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    return isinstance(value, form) and (form is bool or not isinstance(value, bool))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
