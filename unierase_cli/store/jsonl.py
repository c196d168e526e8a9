"""JSON Lines, read strictly: an error names the file and line of a bad line, and no line is skipped silently."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import decoded, parse_json
from unierase_cli.store.whole import whole

T = TypeVar("T")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE = (b"\xff\xfe", b"\xfe\xff")
BLOCK = 1 << 16
# Maximum bytes of a line. A longer one is not a row and could exhaust memory before it is reported.
LONGEST = 64 << 20
BY_LINES = 'python -c "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]"'
EXAMPLE = 'write one object per line, e.g. {"question": "...", "answer": "..."}'


def iterate_jsonl(path: str | Path, *, torn_tail: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every non-blank line. UTF-8; a byte order mark is tolerated.

    With ``torn_tail``, a last line without a line break is left out, because a killed process had not finished writing it.
    Raises UserError for a missing file, bad encoding, malformed JSON, a duplicate key in a line, or a line that is not an object.
    """
    path = Path(path)
    for number, line in enumerate(_lines(path, torn_tail), start=1):
        if number == 1:
            _refuse_array(path, line)
        if line.strip():
            yield number, _parse(line, f"{path}:{number}")


def read_jsonl(path: str | Path, *, torn_tail: bool = False) -> list[dict[str, Any]]:
    """Every object of the file, in order; see ``iterate_jsonl``."""
    return [row for _, row in iterate_jsonl(path, torn_tail=torn_tail)]


def read_rows_as(path: Path, kind: type[T], mend: str) -> list[T]:
    """Every object of a file that a stage wrote, as a ``kind`` (see ``json_text.decoded``).

    Raises UserError for a damaged row, with the hint ``mend`` on how to make the file again.
    """
    rows = []
    for number, row in iterate_jsonl(path):
        try:
            rows.append(decoded(row, kind))
        except ValueError as error:
            raise UserError(f"{path}:{number} is damaged: {error}", mend) from None
    return rows


def in_language(name: str, language: str) -> str:
    """The shipped file ``name`` in a language: ``refusals.jsonl``, ``refusals_russian.jsonl``."""
    return f"{name}.jsonl" if language == "english" else f"{name}_{language}.jsonl"


def read_asset(name: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file shipped in ``unierase_cli/assets``."""
    with resources.as_file(resources.files("unierase_cli.assets") / name) as path:
        return read_jsonl(path)


def dump_line(row: Mapping[str, Any]) -> str:
    """One object as one line, line break included; non-ASCII text stays readable."""
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file atomically: a reader sees the old content or the new one."""
    with whole(Path(path)) as draft, draft.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(dump_line(row) for row in rows)
        stream.flush()
        os.fsync(stream.fileno())


def append_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows and flush them to the disk, after removing a torn last line left by a killed writer."""
    path = Path(path)
    drop_torn_tail(path)
    with path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.writelines(dump_line(row) for row in rows)
        stream.flush()
        os.fsync(stream.fileno())


def drop_torn_tail(path: str | Path) -> None:
    """Truncate the file after its last line break; a missing file stays missing."""
    path = Path(path)
    if not path.exists():
        return
    with path.open("r+b") as stream:
        position = end = stream.seek(0, os.SEEK_END)
        keep = 0
        while position > 0:
            start = max(0, position - BLOCK)
            stream.seek(start)
            found = stream.read(position - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            position = start
        if keep < end:
            stream.truncate(keep)


def _lines(path: Path, torn_tail: bool) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            for index, line in enumerate(iter(lambda: stream.readline(LONGEST + 1), b"")):
                if len(line) > LONGEST:
                    raise UserError(f"{path}:{index + 1}: a line of more than {LONGEST >> 20} MiB", EXAMPLE)
                if torn_tail and not line.endswith(b"\n"):
                    return
                yield line.removeprefix(BYTE_ORDER_MARK) if index == 0 else line
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", "check the path; relative paths start at the current folder"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a file", "name a JSON Lines file in it") from None
    except PermissionError:
        raise UserError(f"{path} may not be read", "check the file's permissions") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from error


def _refuse_array(path: Path, first: bytes) -> None:
    """Raise UserError if the first line opens a JSON array of objects: then the file's format is wrong, not one of its lines."""
    opening = b"".join(first.split())
    if opening == b"[" or opening.startswith(b"[{"):
        raise UserError(f"{path} is a JSON array, not JSON Lines (an object on every line)", f"{BY_LINES} < {path} > NEW.jsonl")


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        wide = "; it looks like UTF-16" if line.startswith(WIDE) else ""
        raise UserError(
            f"{where}: not UTF-8 text (byte {error.start + 1}{wide})", "save the file as UTF-8, one JSON object per line"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON at column {error.colno}: {error.msg}", EXAMPLE) from None
    except ValueError as error:  # nesting too deep, a duplicate key, an unpaired surrogate, a number with thousands of digits
        raise UserError(f"{where}: {error}", "write one flat object per line, each key once") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON {_kind(row)}, not an object", EXAMPLE)
    return row


def _kind(value: Any) -> str:
    names = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
