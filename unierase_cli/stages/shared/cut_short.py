"""Answers that end because no more tokens are allowed: what the model would have said next is not known, and not scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

LIMITS = ("length", "context")
# A few answers always run on; more than this share may change what a table means.
NOTABLE = 0.1


def share_cut(stops: Iterable[str]) -> float:
    """The share of answers that ended at a limit; 0 of none."""
    found = Counter(stops)
    return sum(found[limit] for limit in LIMITS) / found.total() if found else 0.0


def told(what: str, stops: Iterable[str], mend: str) -> str | None:
    """A sentence if the share is notable. ``what``: whose answers; ``mend``: what to do about it."""
    stops = list(stops)
    share = share_cut(stops)
    if share < NOTABLE:
        return None
    return f"{what}: {share:.0%} of {len(stops)} answers end at the token limit; {mend}"


def told_of_state(state: str, stops: Iterable[str]) -> str | None:
    """The sentence about a model state's plain answers."""
    mend = "allow more with protocol.max_new_tokens, or name in protocol.stop what ends an answer"
    return told(f"{state} model, asked plainly", stops, mend)
