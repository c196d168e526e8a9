"""KEY=VALUE words, checked against the groups and the schema before Hydra reads them, so that a typo gives a one-line error."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from typing import Any, Union, get_args, get_origin, get_type_hints

from unierase_cli.config.checks import unwritable
from unierase_cli.config.schema import MOVED, Composition
from unierase_cli.contracts import UserError

WORD = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[^=+~\s][^=\s]*)(?:=(?P<value>.*))?", re.DOTALL)
Choices = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Override:
    """One word; ``group`` is true for a choice (``model=mini``), false for a value (``run.seed=1``)."""

    key: str
    value: str
    prefix: str = ""
    group: bool = False

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    def for_hydra(self) -> str:
        """The word in Hydra's grammar. ``++`` adds the key if no yaml has it, because the schema decides which keys exist."""
        if self.prefix == "~":
            return f"~{self.key}"
        if self.group:
            return f"~{self.key}" if self.value == "null" else str(self)
        return f"++{self.key}={quoted(self.value) if leaf_type(self.key) is str else self.value}"


def parse(words: Sequence[str], choices: Choices) -> list[Override]:
    """Parse and check the words of a command line; raises UserError with the nearest match."""
    for word, following in pairwise(words):
        if sum(map(word.count, "[{")) > sum(map(word.count, "]}")):
            raise UserError(f"{word} is cut off at a space", f"put quotes around it: '{word} {following} ...'")
    parsed = [override for word in words for override in (_chain(word, choices) or [_parse(word, choices)])]
    chosen: dict[str, Override] = {}
    for override in parsed:
        earlier = chosen.setdefault(override.key, override)
        if override.group and earlier.value != override.value:
            raise UserError(f"{override.key} is chosen twice: {earlier} and {override}", "keep one of them")
    # A chain names itself by its parts; a name that was typed comes later and wins.
    parsed.sort(key=lambda o: not o.group and o.key != "method.name")
    return list({(o.key if o.group else id(o)): o for o in parsed}.values())


def _chain(word: str, choices: Choices) -> list[Override] | None:
    """A word like ``method=[me_gd,unierase]`` as the choice of a chain with these parts, or None for any other word."""
    match = re.fullmatch(r"method=\[(?P<parts>.*)\]", word, re.DOTALL)
    if match is None:
        return None
    names = [name.strip() for name in match["parts"].split(",") if name.strip()]
    if not names:
        raise UserError(f"{word} names no method", "for example method=[me_gd,unierase]")
    if len(names) == 1:
        return [_parse(f"method={names[0]}", choices)]
    found = [Override("method", "chain", group=True)]
    for place, name in enumerate(names):
        check_choice("method", name, choices.get("method", ()))
        times = names[: place + 1].count(name)
        found.append(Override(f"+method@method.chain.{name}{f'_{times}' if times > 1 else ''}", name, group=True))
    return [*found, Override("method.name", "+".join(names))]


def known_keys(cls: type = Composition, prefix: str = "") -> list[str]:
    """Every dotted key of the schema that holds a value."""
    found = []
    for name, kind in _hints(cls).items():
        section = is_dataclass(kind)
        found += known_keys(kind, f"{prefix}{name}.") if section else [prefix + name]
    return found


def leaf_type(key: str) -> Any:
    """The type of a dotted key (without ``None``), or None if the schema does not have the key."""
    kind: Any = Composition
    for part in key.split("."):
        if get_origin(kind) is list and part.isdigit():
            kind = get_args(kind)[0]
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif kind is Any:
            return Any  # any value may be nested
        elif is_dataclass(kind) and part in _hints(kind):  # type: ignore[arg-type]
            kind = _hints(kind)[part]  # type: ignore[arg-type]
        else:
            return None
    return kind


def check_key(key: str, where: str = "") -> None:
    """Raise UserError with near matches for a key that is not in the schema; ``where``: the file that has it."""
    if leaf_type(key) is not None:
        return
    if key in MOVED:
        raise UserError(f"{where}there is no key {key}", f"did you mean {MOVED[key][0]}?")
    known = known_keys()
    last = key.rsplit(".", 1)[-1]
    section = next((k for k in _prefixes(key) if is_dataclass(leaf_type(k))), None)
    near = [k for k in known if k.rsplit(".", 1)[-1] == last][:3]
    if not near and section:
        near = [f"{section}.{name}" for name in get_close_matches(last, list(_hints(leaf_type(section))), n=2)]
    near = near or get_close_matches(key, known, n=2, cutoff=0.7)
    place = f"{section} has {', '.join(_hints(leaf_type(section)))}" if section else "`unierase ls keys` lists every key"
    raise UserError(f"{where}there is no key {key}", f"did you mean {' or '.join(near)}?" if near else place)


def describe_type(key: str) -> tuple[str, str]:
    """The type of a key's value in words, and an example."""
    kind = leaf_type(key)
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        if is_dataclass(item):
            name = next(iter(_hints(item)))  # type: ignore[arg-type]
            return "a list of sections", f"[{{{name}: ...}}]"
        examples = {int: ("a list of whole numbers", "[1,2]"), float: ("a list of numbers", "[0.5,0.9]")}
        return examples.get(item, ("a list of texts", "[one,two]"))
    if is_dataclass(kind):
        return "a section", f"{{{next(iter(_hints(kind)))}: ...}}"  # type: ignore[arg-type]
    examples = {int: ("a whole number", "1"), float: ("a number", "0.5"), bool: ("true or false", "true")}
    return examples.get(kind, ("text", "'text'"))


def check_choice(group: str, name: str, available: Sequence[str]) -> None:
    """Raise UserError with near matches for a choice that does not exist."""
    if name in available or (group == "experiment" and name == "null"):
        return
    near = get_close_matches(name, available, n=3)
    if near:
        hint = f"did you mean {' or '.join(f'{group}={n}' for n in near)}?"
    elif group == "model" and ("/" in name or name.startswith((".", "~"))):
        hint = f"for a folder or a hub id type model=hf model.path={name}"
    else:
        hint = f"choose one of: {', '.join(available)}"
    raise UserError(f"{group}={name} is not a choice", hint)


def quoted(value: str) -> str:
    """Quote text for Hydra's grammar; null, interpolations and quoted text stay as typed."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if value in ("null", "???") or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return value
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _parse(word: str, choices: Choices) -> Override:
    if reason := unwritable(word):
        raise UserError(f"the word {word!r} {reason}", "check its encoding")
    match = WORD.fullmatch(word)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        owners = [group for group, names in choices.items() if word in names]
        hint = f"did you mean {' or '.join(f'{g}={word}' for g in owners)}?" if owners else "for example run.seed=1"
        raise UserError(f"{word!r} is not of the form KEY=VALUE", hint)
    prefix, key, value = match["prefix"] or "", match["key"], match["value"] or ""
    if key in choices and not value.lstrip().startswith("{"):
        if prefix == "~":
            raise UserError(f"the group {key} cannot be left out", f"choose one of: {', '.join(choices[key])}")
        check_choice(key, value, choices[key])
        return Override(key, value, group=True)
    if leaf_type(key) is None and "." not in key and (near := get_close_matches(key, list(choices), n=3)):
        # modle=mini is spelled more like mode than model, but only model has a choice mini.
        best = next((group for group in near if value in choices[group]), near[0])
        raise UserError(f"there is no key {key}", f"did you mean {best}={value}?")
    check_key(key)
    if is_dataclass(leaf_type(key)) and prefix != "~" and not value.lstrip().startswith(("{", "$")):
        inner = next(iter(_hints(leaf_type(key))))
        raise UserError(f"{key} is a section, not a value", f"set one of its keys, for example {key}.{inner}=...")
    return Override(key, value, prefix)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Field -> type, without ``None`` in unions."""
    hints = get_type_hints(cls)
    return {field.name: _without_none(hints[field.name]) for field in fields(cls)}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        rest = [k for k in get_args(kind) if k is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
