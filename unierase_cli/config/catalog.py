"""The configuration groups and their files. Only reads folders, so that help is instant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

# Bytes of a yaml; the largest shipped one has a hundredth of this.
LARGEST = 1 << 18
# Values of a yaml, with those of an alias (*name) counted at each use; nesting depth; characters of a number.
MOST_VALUES, DEEPEST, LONGEST_NUMBER = 20_000, 50, 1000
# The order in which help lists the groups; all others follow.
ORDER = ("experiment", "model", "train", "benchmark", "mode", "method", "token", "edit", "protocol", "eval", "audit")


@dataclass(frozen=True)
class Choice:
    """One yaml of a group. ``about`` is its ``note``, else its top comment.

    Only for models: ``verified``, what was tried on which weights, and ``revision``: the pinned commit, ``unpinned`` for a
    model of the hub without one, else empty.
    """

    name: str
    path: Path
    about: str = ""
    verified: str | None = None
    revision: str = ""


def groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Group -> names of its choices, over all folders."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for group in folder.iterdir() if folder.is_dir() else ():
            if group.is_dir() and not group.name.startswith((".", "_")):
                names = (path.relative_to(group).with_suffix("").as_posix() for path in group.rglob("*.yaml"))
                found.setdefault(group.name, set()).update(names)
    order = {name: index for index, name in enumerate(ORDER)}
    return {
        name: sorted(found[name]) for name in sorted(found, key=lambda n: (order.get(n, len(ORDER)), n)) if found[name]
    }


def choices(folders: Sequence[Path], group: str) -> list[Choice]:
    """The choices of a group with their descriptions."""
    return [_describe(name, locate(folders, group, name)) for name in groups(folders).get(group, [])]


def locate(folders: Sequence[Path], group: str, name: str) -> Path:
    """The file of a choice in the first folder that has it."""
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), paths[-1])


def yamls(folder: Path) -> Iterator[Path]:
    """Every yaml below a folder; follows symbolic links."""
    seen: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort()
        yield from (Path(place) / name for name in sorted(names) if name.endswith(".yaml"))


def read_yaml(path: Path) -> tuple[str, dict[Any, Any]]:
    """A file's text and its mapping; raises UserError with the file, and if possible the line, for an invalid yaml."""
    import yaml

    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is too large for a configuration yaml", "take it out of the folder")
        text = path.read_text("utf-8-sig")
        _look(yaml.parse(text, Loader=yaml.SafeLoader))
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _count(node, {})
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{where}: {getattr(error, 'problem', None) or first}", "fix the file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})", "save it as UTF-8") from error
    except (OSError, ValueError, RecursionError) as error:  # numbers of thousands of digits, hundreds of nested brackets
        raise UserError(f"{path} cannot be read: {error}", "fix the file") from error
    if not isinstance(content, dict | None):
        raise UserError(f"{path} has no settings (KEY: VALUE on every line)", "fix the file")
    return text, content or {}


def _look(events: Iterable[Any]) -> None:
    """Raise ValueError early for excessive nesting or length.

    PyYAML's time grows with the square of the depth, and OmegaConf needs a second for a few thousand values.
    """
    depth = 0
    for number, event in enumerate(events):
        depth += type(event).__name__.endswith("StartEvent") - type(event).__name__.endswith("EndEvent")
        if depth > DEEPEST:
            raise ValueError(f"nested too deeply (line {event.start_mark.line + 1})")
        if number > 3 * MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values (line {event.start_mark.line + 1})")


def _count(node: Any, known: dict[int, int]) -> int:
    """The number of values in a node, aliases expanded.

    PyYAML reads an alias quickly, but later code visits each of its values. Raises ValueError for too many values, for
    a value that contains itself and for a number with thousands of digits.
    """
    if id(node) not in known:
        if node.id == "scalar":
            if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
                raise ValueError("a number of thousands of digits")
            return 1
        known[id(node)] = -1
        parts = [part for pair in node.value for part in pair] if node.id == "mapping" else node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    count = known[id(node)]
    if count < 0:
        raise ValueError(f"a value that contains itself (line {node.start_mark.line + 1})")
    if count > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values (line {node.start_mark.line + 1})")
    return count


def _describe(name: str, path: Path) -> Choice:
    try:
        text, content = read_yaml(path)
    except UserError:
        return Choice(name, path, "(not readable as yaml)")
    about = str(content.get("note") or _top_comment(text))
    if path.parent.name != "model":
        return Choice(name, path, about)
    by = f": {content['verified_by']}" if content.get("verified_by") else ""
    hub = content.get("path") not in (None, "???")
    return Choice(
        name, path, about, f"{content.get('verified', 'random')}{by}", str(content.get("revision") or ("unpinned" if hub else ""))
    )


def _top_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)
