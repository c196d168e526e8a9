"""Reads the code of a part without importing it: a hash for artefact keys, and the file's constants."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from unierase_cli.remembered import recall, remember


class Unread(Exception):
    """A constant is not a literal: its value is known only after import."""


@cache
def code_hash(module: str, *shared: str) -> str | None:
    """Sha256 of a module's file and of everything it imports from ``shared`` or from its own top-level package.

    Imports are followed transitively; ``shared`` names packages such as ``unierase_cli.methods``, or modules. A package
    counts with all its files. None if the module has no file. Cached per process, since Python imports a file once.
    Comments and blank lines count.
    """
    own = module.partition(".")[0]
    if own != "unierase_cli":
        return _code_hash(module, {*shared, own})
    # Hashing all files of these rooms is many times as fast as finding out which of them are imported.
    key = [module, *(room_hash(name) for name in (__name__, module, *shared))]
    known = recall("code", key)
    if not isinstance(known, str):
        known = _code_hash(module, shared)
        remember("code", key, known)
    return known


def _code_hash(module: str, rooms: Collection[str]) -> str | None:
    found: dict[str, bytes] = {}
    left = [module, *_inside(module)]
    while left:
        name = left.pop()
        content = _content(name)
        if name not in found and content is not None:
            found[name] = content
            left += [_module_of(other) for other in _imported(name) if _within(other, rooms)]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name} {len(found[name])}\n".encode() + found[name])
    return digest.hexdigest() if found else None


def constant(module: str, name: str, default: Any = None) -> Any:
    """The value that a file binds to a name at top level.

    Supports literals, and names bound to literals in the file or where they are imported from. Returns ``default`` if
    the name is absent. Raises Unread for anything else.
    """
    found: Any = default
    tree = _tree(module)
    if tree is None:
        raise Unread(f"{module}.{name}")
    for node in tree.body:
        pairs = dict(_assigned(node))
        if name in pairs:
            found = _value(pairs[name], module)
        elif isinstance(node, ast.ImportFrom) and (original := _bound(node).get(name)) is not None:
            found = constant(_origin(node, module), original, Unread)
            if found is Unread:
                raise Unread(f"{module}.{name}")
        elif name in _names(node):
            raise Unread(f"{module}.{name}")
    return found


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Name and value of every plain assignment: ``A = B = 1``, ``A: int = 1``, ``A, B = 1, 2``."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value
    for target in node.targets if isinstance(node, ast.Assign) else ():
        assert isinstance(node, ast.Assign)
        several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
        pairs = zip(target.elts, node.value.elts, strict=False) if several else [(target, node.value)]  # type: ignore[attr-defined]
        yield from ((one.id, value) for one, value in pairs if isinstance(one, ast.Name))


def _names(node: ast.stmt) -> set[str]:
    """Every name that a statement may bind or change (``from ... import *`` counts as none)."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    places = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else [node]
    parts = [part for place in places for part in ast.walk(place)]
    found = {part.id for part in parts if isinstance(part, ast.Name)}
    return found.union(*(_bound(part) for part in parts if isinstance(part, ast.Import | ast.ImportFrom)))


def _bound(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Name in the file -> name in the imported module."""
    return {alias.asname or alias.name: alias.name for alias in node.names}


def _value(node: ast.expr | None, module: str) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, module) for item in node.elts)
    if isinstance(node, ast.List):
        return [_value(item, module) for item in node.elts]
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {_value(key, module): _value(value, module) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Name):
        found = constant(module, node.id, Unread)
        if found is Unread:
            raise Unread(f"{module}.{node.id}")
        return found
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise Unread(module) from None


@cache
def _imported(module: str) -> frozenset[str]:
    """Dotted names of everything a file imports, also inside functions: modules and names from modules."""
    found: set[str] = set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{_origin(node, module)}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _statements(node: ast.AST | None) -> Iterator[ast.AST]:
    """Every statement within, at any depth; expressions, most of a tree, are not visited."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, field, ()):
            yield inner
            yield from _statements(inner)


@cache
def room_hash(room: str) -> str:
    """Sha256 of a package's files, or of a module's file."""
    digest = hashlib.sha256(f"{room}\n".encode() + (_content(room) or b""))
    for folder in _folders(room):
        for path in sorted(Path(folder).rglob("*.py")):
            try:
                content = path.read_bytes()
            except OSError:  # an editor's lock, which is a link to nowhere, or a folder of this name
                continue
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _module_of(name: str) -> str:
    """The module itself, or the module that defines the name."""
    return name if _content(name) is not None else name.rpartition(".")[0]


def _origin(node: ast.ImportFrom, module: str) -> str:
    """The module after ``from``, relative dots resolved."""
    if not node.level:
        return node.module or ""
    spec = _spec(module)
    parts = module.split(".")
    above = node.level - (spec is not None and spec.submodule_search_locations is not None)
    return ".".join([*parts[: len(parts) - above], *filter(None, [node.module])])


def _inside(module: str) -> list[str]:
    """Every module of a package; empty for a plain module."""
    found = []
    for folder in _folders(module):
        for path in sorted(Path(folder).rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            found.append(".".join([module, *(inner[:-1] if inner[-1] == "__init__" else inner)]))
    return found


def _within(name: str, rooms: Collection[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@cache
def _content(module: str) -> bytes | None:
    """The content of a module's file, also of a compiled one; None without a file."""
    spec = _spec(module)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    with suppress(OSError):
        return Path(spec.origin).read_bytes()
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    """The syntax tree of a file; None without one. Syntax errors surface when the file is imported."""
    content = _content(module)
    with suppress(SyntaxError, ValueError):
        return None if content is None else ast.parse(content)
    return None


def _spec(module: str) -> ModuleSpec | None:
    """The spec of a module; unlike ``importlib.util.find_spec``, parent packages are not imported."""
    parent, _, name = module.rpartition(".")
    with suppress(ImportError, ValueError, AttributeError):
        return PathFinder.find_spec(name, _folders(parent)) if parent else importlib.util.find_spec(module)
    return None


def _folders(package: str) -> list[str]:
    if package in sys.modules:
        return list(getattr(sys.modules[package], "__path__", ()))
    spec = _spec(package)
    return list((spec and spec.submodule_search_locations) or ())
