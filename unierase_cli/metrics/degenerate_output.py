"""Answers that are no language: nothing at all, or something over and over.

Rule, version 1, on the text without unlearning tokens; words are runs of letters, digits and underscores, in lower case. An answer
is degenerate if it has no word, or four words in a row occur more than three times, or of at least ten words fewer than 30 %
are distinct, or up to eight characters without a space are repeated twenty times on end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from unierase_cli.contracts import MetricResult, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split
from unierase_cli.metrics.refusal_rate import without_unlearning_tokens

NAME = "degenerate_output"
VERSION = 1
HIGHER_IS_BETTER = False
# Each row is a yes (1) or a no (0).
YES_NO = True
ABOUT = About(NAME, "degenerate answers", VERSION, HIGHER_IS_BETTER)
WORD = re.compile(r"\w+")
STUTTER = re.compile(r"(\S{1,8}?)\1{19}")


def compute(observations: Sequence[Observation]) -> MetricResult:
    """Share of degenerate answers."""
    return mean_result(ABOUT, [float(is_degenerate(o.text)) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute)


def is_degenerate(text: str) -> bool:
    """Whether the text is degenerate by the rule above."""
    text = without_unlearning_tokens(text)
    found = WORD.findall(text.lower())
    if not found or STUTTER.search(text):
        return True
    if len(found) >= 10 and len(set(found)) / len(found) < 0.3:
        return True
    fours = Counter(zip(found, found[1:], found[2:], found[3:], strict=False))
    return max(fours.values(), default=0) > 3
