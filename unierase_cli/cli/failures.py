"""How failures are reported: one line and a hint on stderr; the traceback goes into a file."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unierase_cli.store.refusals import is_out_of_memory

if TYPE_CHECKING:
    from unierase_cli.cli.session import Journal

INTERRUPTED = "interrupted; the same command resumes from here"
TRACEBACK = "UNIERASE_TRACEBACK"
# Longer words are shortened to about this many characters.
SHOWN = 200
LONG = re.compile(rf"\S{{{SHOWN + 1},}}")


def tell(message: str, hint: str = "") -> int:
    """Print ``error: message`` and ``try: hint`` to stderr; returns 2, the exit code of a user's mistake."""
    print(f"error: {_shortened(message)}", file=sys.stderr)
    if hint:
        hint = _shortened(hint)
        nearest = hint.removeprefix("did you mean ").removesuffix("?")
        print(f"  try: {nearest if hint.startswith('did you mean ') else hint}", file=sys.stderr)
    return 2


def record(error: BaseException, journal: Journal) -> int:
    """Write the traceback and all earlier messages to a file and print its path; returns exit code 1.

    With $UNIERASE_TRACEBACK=1 the error is raised instead.
    """
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        raise error
    said = [f"$ {' '.join(sys.argv)}", *journal.reporter.notes, *(f"warning: {w}" for w in journal.reporter.warnings)]
    content = "\n".join([*said, "", "".join(traceback.format_exception(error))])
    path = _write(lambda: Path(journal.outputs) / "errors", content)
    path = path or _write(lambda: Path(tempfile.gettempdir()), content)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kept = f"the traceback is in {path}" if path else f"set {TRACEBACK}=1 to see the traceback"
    tell(f"{type(error).__name__}: {first}" if first else type(error).__name__, kept)
    return 1


def out_of_memory(error: BaseException) -> tuple[str, str] | None:
    """Message and hint if the error means that the device or the machine ran out of memory, else None."""
    if not is_out_of_memory(error):
        return None
    return (
        "out of memory",
        "unierase doctor with the same arguments shows what needs it; or use a smaller batch_size",
    )


def _shortened(text: str) -> str:
    """The text on one line, with long words shortened in the middle and unprintable characters escaped."""
    text = LONG.sub(lambda m: f"{m[0][: SHOWN // 2]}...{m[0][-20:]} ({len(m[0])} characters)", " ".join(text.split()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _write(place: Callable[[], Path], content: str) -> Path | None:
    try:
        folder = place()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"unierase-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        path.write_text(content, "utf-8")
    except OSError:
        return None
    return path
