"""What there is to choose from: the configuration groups and their files. Reads folders only, so that help is instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The order in which help lists them; a group that is not named here follows.
ORDER = ("experiment", "model", "train", "benchmark", "mode", "method", "token", "edit", "protocol", "eval")


@dataclass(frozen=True)
class Choice:
    """One yaml of a group. ``about`` is its ``note``, else the comment at its top; ``verified`` is for models only."""

    name: str
    path: Path
    about: str = ""
    verified: bool | None = None


def groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Group -> names of its choices, from every folder."""
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
    """The choices of a group with what their files say about themselves."""
    return [_describe(name, locate(folders, group, name)) for name in groups(folders).get(group, [])]


def locate(folders: Sequence[Path], group: str, name: str) -> Path:
    """The file of a choice: the one in the first folder that has it."""
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), paths[-1])


def _describe(name: str, path: Path) -> Choice:
    import yaml

    text = path.read_text("utf-8")
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return Choice(name, path, "(not readable as yaml)")
    if not isinstance(content, dict):
        return Choice(name, path, "(not a mapping)")
    verified = content.get("verified", False) if path.parent.name == "model" else None
    return Choice(name, path, str(content.get("note") or _top_comment(text)), verified)


def _top_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)
