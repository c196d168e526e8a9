"""What there is to choose from: the configuration groups and their files. Reads folders only, so that help is instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError

# Bytes of a yaml: the longest that is shipped has a hundredth of it.
LARGEST = 1 << 20
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


def read_yaml(path: Path) -> tuple[str, dict[Any, Any]]:
    """A file's text and its mapping. Raises UserError naming the file, and the line where there is one, for what is none."""
    import yaml

    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is too large for a yaml of settings", "take it out of the folder")
        text = path.read_text("utf-8-sig")
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{where}: {getattr(error, 'problem', None) or first}", "mend the file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1})", "save it as UTF-8") from error
    except (OSError, ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets nested by the hundred
        raise UserError(f"{path} cannot be read: {error}", "mend the file") from error
    if not isinstance(content, dict | None):
        raise UserError(f"{path} holds no settings (KEY: VALUE on every line)", "mend the file")
    return text, content or {}


def _describe(name: str, path: Path) -> Choice:
    try:
        text, content = read_yaml(path)
    except UserError:
        return Choice(name, path, "(not readable as yaml)")
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
