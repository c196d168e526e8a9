"""The meanings of the configuration keys, read from the docstrings below the fields of ``config.sections``."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from typing import Any, get_args, get_origin

from unierase_cli.config.overrides import leaf_type
from unierase_cli.config.schema import Composition
from unierase_cli.contracts import UserError

# Width of the comments that `--print-config` writes.
WIDTH = 100


@dataclass(frozen=True)
class Key:
    """A key, its default as typed, and its meaning. The default is the schema's; a choice of the group may override it."""

    name: str
    default: str
    meaning: str


def list_keys(section: str | None = None) -> list[Key]:
    """The keys of a section, or all keys; raises UserError with near matches for an unknown section.

    A list of sections is followed by the keys of its first item (``token.stages.0.lr``).
    """
    known = list(_walk(Composition))
    keys = [key for key in known if not is_dataclass(leaf_type(key.name))]
    chosen = [key for key in keys if section is None or f"{key.name}.".startswith(f"{section}.")]
    if not chosen:
        sections = [key.name for key in known if "." not in key.name]
        near = get_close_matches(str(section), [key.name for key in known], n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(sections)}"
        raise UserError(f"the configuration has no section {section}", hint)
    return chosen


def with_meanings(text: str) -> str:
    """A composed configuration as yaml, with each key's meaning in a comment above it."""
    import yaml

    meanings = {key.name: key.meaning for key in _walk(Composition)}
    # Line numbers come from the parser, because a line inside a folded text may look like a key.
    above = dict(_comments(yaml.compose(text, Loader=yaml.SafeLoader), "", meanings))
    return "".join(f"{above.get(number, '')}{line}" for number, line in enumerate(text.splitlines(keepends=True)))


def _walk(section: Any, prefix: str = "") -> Iterator[Key]:
    """Every key below a section, nested sections included, each followed by its contents."""
    texts = _docstrings(section)
    for field in fields(section):
        name = f"{prefix}{field.name}"
        kind = leaf_type(name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(kind):
            yield Key(name, "", texts.get(field.name) or _docstrings(kind).get("", ""))
            yield from _walk(kind, f"{name}.")
        elif get_origin(kind) is list and is_dataclass(get_args(kind)[0]):
            yield Key(name, f"{len(default)} of {name}.N" if isinstance(default, list) else "", texts.get(field.name, ""))
            yield from _walk(get_args(kind)[0], f"{name}.0.")
        else:
            typed = default if isinstance(default, str) and default else json.dumps(default)
            yield Key(name, typed, texts.get(field.name, ""))


def _docstrings(section: Any) -> Mapping[str, str]:
    """Field -> its docstring; the section's own docstring has the empty name."""
    return _docstrings_of(section.__module__).get(section.__name__, {})


@cache
def _docstrings_of(module: str) -> Mapping[str, Mapping[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:  # installed without its source
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            texts = found[node.name] = {"": _unfolded(ast.get_docstring(node) or "")}
            for field, below in pairwise(node.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        texts[name] = _unfolded(text)
    return found


def _unfolded(text: str) -> str:
    return " ".join(text.split())


def _comments(node: Any, prefix: str, meanings: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Line number of a key -> the comment above it; in a list of sections only the first item gets comments."""
    if node.id == "sequence" and node.value:
        yield from _comments(node.value[0], f"{prefix}0.", meanings)
    elif node.id == "mapping":
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            mark = " " * key.start_mark.column + "# "
            lines = textwrap.wrap(meanings.get(name, ""), WIDTH, initial_indent=mark, subsequent_indent=mark)
            yield key.start_mark.line, "".join(f"{line}\n" for line in lines)
            yield from _comments(value, f"{name}.", meanings)
