"""Degenerate answers: no words at all, or the same words over and over.

Rule, version 2, on the text without unlearning tokens; words as defined in ``unierase_cli.words``, with the underscore as a letter.
An answer is degenerate if it has no word, if four words in a row occur more than three times, if it has at least ten words of which
fewer than 30 % are distinct, or if up to eight characters without a space repeat twenty times in a row. In scripts without spaces
two characters count as a word, and distinct pairs of neighbouring characters are counted, because such a script has few characters,
which all its texts repeat.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split
from unierase_cli.metrics.refusal_rate import without_unlearning_tokens
from unierase_cli.words import IDENTIFIERS, unspaced, visible, words

NAME = "degenerate_output"
VERSION = 2
HIGHER_IS_BETTER = False
# Each row is yes (1) or no (0).
YES_NO = True
ABOUT = About(NAME, "degenerate answers", VERSION, HIGHER_IS_BETTER)
STUTTER = re.compile(r"(\S{1,8}?)\1{19}")


def compute(observations: Sequence[Observation]) -> Measure:
    """Share of degenerate answers."""
    return mean_result(ABOUT, [float(is_degenerate(o.text)) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute)


def is_degenerate(text: str) -> bool:
    """Whether the text is degenerate by the rule above."""
    text = visible(without_unlearning_tokens(text))
    found = words(text, IDENTIFIERS)
    if not found or STUTTER.search(text):
        return True
    # Counted in half words: a character of a script without spaces is one of them.
    sizes = [1 if unspaced(word) else 2 for word in found]
    pairs = zip(found, [*found[1:], ""], sizes, strict=True)
    distinct = {(word, following if size == 1 else "") for word, following, size in pairs}
    if sum(sizes) >= 20 and len(distinct) / len(found) < 0.3:
        return True
    return max(Counter(_fours(found, sizes)).values(), default=0) > 3


def _fours(found: Sequence[str], sizes: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Every shortest run of words that adds up to four words."""
    end = length = 0
    for start, size in enumerate(sizes):
        while length < 8 and end < len(sizes):
            length += sizes[end]
            end += 1
        if length < 8:
            return
        yield tuple(found[start:end])
        length -= size
