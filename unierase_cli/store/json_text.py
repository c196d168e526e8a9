"""Reads untrusted JSON: input that Python's reader accepts or crashes on, and values of the wrong type, raise a ValueError with
a one-line message.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from unierase_cli.contracts import UserError
from unierase_cli.store.whole import write_text

# Maximum bytes of a descriptive file (a manifest, a config.json); kilobytes are usual.
DESCRIPTION = 16 << 20
# Maximum bytes of a file with numbers or texts per row.
ROWS = 512 << 20
# A number that is neither NaN nor infinite. Booleans never count as numbers.
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
T = TypeVar("T")


def parse_json(text: str) -> Any:
    """The parsed value. NaN and infinity pass, because Python writes them.

    Raises json.JSONDecodeError for invalid JSON, and ValueError for a duplicate key in an object, an unpaired surrogate (which
    UTF-8 cannot encode), numbers with thousands of digits, or nesting deeper than Python's stack.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once)
        # Only an escape can produce an unpaired surrogate, since the text itself was decoded.
        if "\\ud" in text or "\\uD" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("an escape \\ud800 to \\udfff without its pair, which is not a character") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        told = "a number of thousands of digits" if "int" in str(error) and "limit" in str(error) else str(error)
        raise ValueError(told) from None
    return found


def read_json(path: Path, most: int = DESCRIPTION) -> Any:
    """The value in a UTF-8 file of at most ``most`` bytes; a byte order mark is tolerated, and larger files are not read.

    Raises OSError, or ValueError as ``parse_json`` does.
    """
    return parse_json(read_bytes(path, most).decode("utf-8-sig"))


def read_bytes(path: Path, most: int = DESCRIPTION) -> bytes:
    """The content of a file of at most ``most`` bytes. Raises OSError, or ValueError for a larger file, which is not read."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2) if stream.seekable() else 0
        if size > most:
            raise ValueError(f"it has {size / 1e6:,.0f} MB, more than the limit of {most / 1e6:,.0f} MB")
        if size:
            stream.seek(0)
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than the limit of {most / 1e6:,.0f} MB")
    return content


def decoded(value: Any, kind: type[T], place: str = "") -> T:
    """The value as a ``kind``: a msgspec.Struct, a dataclass or any type for ``msgspec.convert``; unknown keys are ignored.

    Raises ValueError that names the place (below ``place``) of a wrong type: ``inputs[...].path: expected str, got int``.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        wrong, _, spot = str(error).replace("`", "").partition(" - at ")
        wrong = re.sub(r"[<>]= -?1\.79\S+", "that is finite", wrong[0].lower() + wrong[1:])
        spot = f"{place}{spot.removeprefix('$')}".removeprefix(".")
        raise ValueError(f"{spot}: {wrong}" if spot else wrong) from None


def read_as(path: Path, kind: type[T], mend: str) -> T:
    """The content of a file that a stage wrote, as a ``kind`` (see ``decoded``).

    Raises UserError for a missing or damaged file, with the hint ``mend`` on how to make it again.
    """
    try:
        return decoded(read_json(path, ROWS), kind)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", mend) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the whole new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(twice, ensure_ascii=True)} occurs twice in one object")
    return found
