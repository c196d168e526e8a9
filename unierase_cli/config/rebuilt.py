"""Builds the schema's dataclasses from complete plain data of exactly their types, without importing OmegaConf."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


class Unlike(Exception):
    """The data lacks a key, has an unknown one, or a value of another type; OmegaConf may still be able to read it."""


def rebuilt(kind: Any, data: Any) -> Any:
    """An object of type ``kind`` whose ``asdict`` is ``data``; raises Unlike, and what ``__post_init__`` raises."""
    if kind is Any:
        return deepcopy(data)
    if is_dataclass(kind):
        types = get_type_hints(kind)
        if not isinstance(data, dict) or data.keys() != types.keys():
            raise Unlike
        return kind(**{name: rebuilt(type_, data[name]) for name, type_ in types.items()})  # type: ignore[operator]
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if data is None and type(None) in parts:
            return None
        (kind,) = (part for part in parts if part is not type(None))
        return rebuilt(kind, data)
    if type(data) is not (origin or kind):
        raise Unlike
    if origin is list:
        return [rebuilt(parts[0], item) for item in data]
    if origin is dict:
        return {rebuilt(parts[0], name): rebuilt(parts[1], item) for name, item in data.items()}
    return data
