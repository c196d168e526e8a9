"""Reads JSON files of other programs as untrusted input: every fault becomes a one-line error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.json_text import ROWS, read_json


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file. ``what`` names the kind of file that is expected.

    Raises UserError for a file that is missing, a folder, empty, not UTF-8, too large, not JSON (for example truncated), or not an
    object.
    """
    try:
        found = read_json(path, ROWS)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", "check the path; relative paths start at the current folder"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a file", f"name the file in it: {what}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the file's permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not text: byte {error.start + 1} is not UTF-8", f"name a JSON file: {what}"
        ) from None
    except json.JSONDecodeError as error:
        if not error.doc.strip():
            raise UserError(f"{path} is empty", f"name {what}") from None
        cut = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        told = "it ends too early, as if truncated" if cut else f"{error.msg} in line {error.lineno}"
        raise UserError(f"{path} is not complete JSON: {told}", f"copy it again, or name {what}") from None
    except ValueError as error:  # too large, nested too deeply, a duplicate key, or a number with thousands of digits
        raise UserError(f"{path} is not readable JSON ({error})", f"name {what}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a JSON {type(found).__name__}, not an object", f"name {what}")
    return found


def number(value: Any, where: str) -> float:
    """A finite number. Raises UserError that names the place for anything else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where} is {_shown(value)}, not a number", "write the log again")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise UserError(
            f"{where} is {_shown(value)}: there is nothing to average", "evaluate that model again, in float32"
        )
    return found


def section(value: Any, where: str) -> Mapping[str, Any]:
    """A JSON object. Raises UserError that names the place for anything else."""
    if not isinstance(value, dict):
        raise UserError(f"{where} is {_shown(value)}, not an object", "write the log again")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:+}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
