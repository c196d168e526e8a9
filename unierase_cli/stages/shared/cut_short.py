"""Answers cut off by a token limit; how they would continue is unknown and not scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

LIMITS = ("length", "context")
# A few answers always run on; a larger share than this may change the meaning of a table.
NOTABLE = 0.1


def share_cut(stops: Iterable[str]) -> float:
    """The share of answers that ended at a limit; 0 if there are none."""
    found = Counter(stops)
    return sum(found[limit] for limit in LIMITS) / found.total() if found else 0.0


def told(what: str, stops: Iterable[str], mend: str) -> str | None:
    """A warning if the share is notable; ``what``: whose answers; ``mend``: the remedy."""
    stops = list(stops)
    share = share_cut(stops)
    if share < NOTABLE:
        return None
    return f"{what}: {share:.0%} of {len(stops)} answers end at the token limit; {mend}"


def told_of_state(state: str, stops: Iterable[str]) -> str | None:
    """The warning about a model state's plain answers, or None."""
    mend = "allow more with protocol.max_new_tokens, or name texts that end an answer in protocol.stop"
    return told(f"{state} model, asked plainly", stops, mend)
