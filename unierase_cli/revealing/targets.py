"""The targets: names or topics, one per line, or JSON Lines with ``name`` and ``kind``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unierase_cli.config.checks import one_of
from unierase_cli.config.sections.reveal import KINDS
from unierase_cli.contracts import NAME_SLOT, UserError, duplicates, normalised
from unierase_cli.store.jsonl import iterate_jsonl

# Characters; a longer line is a text and not a name.
LONGEST = 200


@dataclass(frozen=True)
class Target:
    """A name or a topic; ``kind``: person or topic."""

    name: str
    kind: str


def read_targets(path: str | None, kind: str) -> list[Target]:
    """The targets of a file, those without a kind of their own with ``kind``.

    Raises UserError, with the line, for a file that is missing, empty or not UTF-8, and for a target that is not a name.
    """
    if path is None:
        raise UserError("reveal needs the targets", "give reveal.targets=names.txt, with one name or topic per line")
    file = Path(path)
    found = _from_jsonl(file, kind) if file.suffix in (".jsonl", ".json") else _from_text(file, kind)
    if not found:
        raise UserError(f"reveal.targets={path} has no target", "write one name or topic per line")
    repeated = duplicates(normalised(target.name) for target in found)
    if repeated:
        raise UserError(f"reveal.targets={path}: {repeated[0]!r} occurs twice", "write each target once")
    return found


def _from_text(path: Path, kind: str) -> list[Target]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"reveal.targets={path} does not exist", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"reveal.targets={path} cannot be read ({error})", "give a UTF-8 text file") from error
    return [_target(line, kind, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _from_jsonl(path: Path, kind: str) -> list[Target]:
    found = []
    for number, row in iterate_jsonl(path):
        where, name, own = f"{path}:{number}", row.get("name"), row.get("kind", kind)
        if not isinstance(name, str):
            raise UserError(f"{where}: no text under the key `name`", 'write for example {"name": "Ada Velour"}')
        if "question" in row or "answer" in row:
            raise UserError(f"{where}: a question or answer is no target", "write names alone: nothing else may be read")
        one_of(f"{where}: kind", str(own), KINDS)
        found.append(_target(name, str(own), where))
    return found


def _target(text: str, kind: str, where: str) -> Target:
    name = " ".join(text.split())
    if not normalised(name) or len(name) > LONGEST or NAME_SLOT in name:
        raise UserError(f"{where}: {name[:40]!r} is not a name or a topic", f"write 1 to {LONGEST} characters per line")
    return Target(name, kind)
