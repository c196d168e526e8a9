"""What changed between two answers, word by word, as HTML marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from unierase_cli.results.page.document import escaped

# Words, single signs, and white space; of scripts without spaces every letter is a word.
PART = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|[^\w\s]")
# Answers that share less than this are marked as a whole: scattered common words would say nothing.
ALIKE = 0.35
# Longer answers are marked as a whole, to bound the time.
LONGEST = 1500


def marked(before: str, after: str) -> tuple[str, str]:
    """The two texts as HTML: what only the first has in ``<del>``, what only the second has in ``<ins>``."""
    if before == after:
        return escaped(before), escaped(after)
    one, other = PART.findall(before), PART.findall(after)
    if len(one) + len(other) > LONGEST or _likeness(one, other) < ALIKE:
        return _joined([("del", one)]), _joined([("ins", other)])
    removed: list[tuple[str, Sequence[str]]] = []
    added: list[tuple[str, Sequence[str]]] = []
    for kind, low, high, from_, to in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        removed.append(("" if kind == "equal" else "del", one[low:high]))
        added.append(("" if kind == "equal" else "ins", other[from_:to]))
    return _joined(removed), _joined(added)


def _likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of words that the two have in common, in order."""
    before, after = ([part for part in parts if part[0].isalnum()] for parts in (one, other))
    return SequenceMatcher(None, before, after, autojunk=False).ratio()


def _joined(runs: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The runs as HTML; a space between two marked runs is marked with them, so that a phrase is one mark."""
    kept = [(mark, "".join(parts)) for mark, parts in runs if parts]
    merged: list[tuple[str, str]] = []
    for place, (mark, text) in enumerate(kept):
        between = not mark and text.isspace() and 0 < place < len(kept) - 1
        mark = merged[-1][0] if between else mark
        if merged and merged[-1][0] == mark:
            merged[-1] = (mark, merged[-1][1] + text)
        else:
            merged.append((mark, text))
    return "".join(f"<{mark}>{escaped(text)}</{mark}>" if mark else escaped(text) for mark, text in merged)
