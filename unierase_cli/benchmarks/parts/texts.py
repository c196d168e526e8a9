"""Whole texts as facts: a passage's first words are the prompt, and the rest continues it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from unierase_cli.benchmarks.parts.rows import completion, read_text
from unierase_cli.contracts import Fact, UserError

# Words of the prompt: a sequence cannot begin with nothing, and few texts should begin alike.
OPENING = 8
# Words of a passage, about 350 tokens.
PASSAGE = 256


def whole_text(row: Mapping[str, Any], where: str, fact_id: str, key: str = "text", group: str | None = None) -> Fact:
    """The whole text as one fact. Raises UserError for a missing text, and for one of a single word."""
    text = read_text(row, key, where, required=True) or ""
    return _fact(text.strip(), where, fact_id, group)


def passages(row: Mapping[str, Any], where: str, fact_id: str, key: str = "text", group: str | None = None) -> list[Fact]:
    """The text in passages of at most PASSAGE words, each a fact; ``group``: by default the text itself."""
    text = read_text(row, key, where, required=True) or ""
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    # A rest of a few words goes with the passage before it.
    cuts = [*starts[: max(1, len(starts) - OPENING) : PASSAGE], len(text)]
    return [
        _fact(text[begin:end].strip(), where, f"{fact_id}-{number}", group or fact_id)
        for number, (begin, end) in enumerate(pairwise(cuts))
    ]


def _fact(text: str, where: str, fact_id: str, group: str | None) -> Fact:
    words = list(re.finditer(r"\S+", text))
    if len(words) < 2:
        raise UserError(f"{where}: {text!r} is too short a text", "a text has at least two words")
    end = words[min(OPENING, len(words) // 2) - 1].end()
    return completion(Fact(fact_id, text[:end], text[end:], group=group))
