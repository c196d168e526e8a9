"""The kinds of judges, their result types, and the messages of judges that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from unierase_cli.store.refusals import is_out_of_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Texts -> vectors [n, d]; pairs (premise, hypothesis) -> labels; texts -> probability of being clean text.
Encode = Callable[[Sequence[str]], "NDArray[Any]"]
Classify = Callable[[Sequence[tuple[str, str]]], list[str]]
Judge = Callable[[Sequence[str]], list[float]]

ENCODER, NLI, GIBBERISH, REFUSAL_ENCODER = "encoder", "nli", "gibberish", "refusal_encoder"
# Kinds that return vectors.
ENCODERS = (ENCODER, REFUSAL_ENCODER)
# What stands for the state of a judge that is missing.
NO_PACKAGE, NO_FOLDER, NOT_DOWNLOADED = MISSING = ("no package", "no folder", "not downloaded")
# Title of a judge, and the model that the reference code bases use.
KINDS = {
    ENCODER: ("sentence encoder", "sentence-transformers/paraphrase-MiniLM-L6-v2"),
    NLI: ("entailment classifier", "sileod/deberta-v3-base-tasksource-nli"),
    GIBBERISH: ("gibberish detector", "madhurjindal/autonlp-Gibberish-Detector-492513457"),
    REFUSAL_ENCODER: ("sentence encoder for refusals", "sentence-transformers/all-MiniLM-L6-v2"),
}


class JudgeAbsent(Exception):
    """The judge is missing or does not answer; the text gives the reason and the remedy."""


class JudgeFailed(JudgeAbsent):
    """The judge was available but failed; it may have answered earlier questions."""


def why(kind: str, name: str, error: Exception) -> str:
    """One line that says why an available judge gave no answer."""
    what = f"the {KINDS[kind][0]} {name}".rstrip()
    if is_out_of_memory(error):
        return f"the memory is not enough for {what}; free some, or name a smaller one: eval.{kind}="
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{what} failed: {type(error).__name__}{': ' if first else ''}{first[:200]}"
