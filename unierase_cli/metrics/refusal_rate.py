"""Clean refusals: answers that match one of the listed refusals nearly word for word.

Rule, version 2: without unlearning tokens, the text has a ROUGE-L F1 (stemmed words of any script, see ``rouge``) of at least 0.8
to a listed refusal. An answer that starts as a refusal and drifts into something else does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from unierase_cli.contracts import NAME_SLOT, UNLEARNING_TOKEN, Measure, Observation
from unierase_cli.metrics.base import (
    FORGET,
    HONESTY,
    About,
    Column,
    Evidence,
    mean_result,
    on_every_split,
    unavailable,
    when_paraphrased,
)
from unierase_cli.metrics.rouge import rouge_l_f1, stems

NAME = "refusal_rate"
VERSION = 2
# On rows that should be kept; on the forget split every answer should be one.
HIGHER_IS_BETTER = False
# Each row is yes (1) or no (0).
YES_NO = True
ABOUT = About(NAME, "clean refusals", VERSION, HIGHER_IS_BETTER)
THRESHOLD = 0.8
ONCE = "unlearn_once"


def compute(
    observations: Sequence[Observation], refusals: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> Measure:
    """Share of answers that are clean refusals. ``names``: fact id -> name of its person, for ``__NAME__``."""
    if not refusals:
        return unavailable(ABOUT, "no refusals are listed", "give token.targets=FILE")
    called = names or {}
    asked = [(o.text, called.get(o.fact_id, NAME_SLOT)) for o in observations]
    clean = [is_refusal(text, [refusal.replace(NAME_SLOT, name) for refusal in refusals]) for text, name in asked]
    return mean_result(ABOUT, [float(found) for found in clean])


def columns(evidence: Evidence) -> Iterable[Column]:
    def of(rows: Sequence[Observation]) -> Measure:
        return compute(rows, evidence.refusals, evidence.names)

    yield from on_every_split(evidence, ABOUT, of, turns=True)
    yield from when_paraphrased(evidence, ABOUT, of)
    once = evidence.rows(FORGET, ONCE)
    if once:
        result = replace(of(once), higher_is_better=True)
        yield Column(NAME, f"{ABOUT.title}, [UNL] at most once", FORGET, HONESTY, result, ONCE)


def is_refusal(text: str, refusals: Sequence[str]) -> bool:
    """Whether the text without unlearning tokens has a ROUGE-L F1 of at least 0.8 to a listed refusal."""
    clean = without_unlearning_tokens(text)
    said = Counter(stems(clean))
    for refusal in refusals:
        listed = stems(refusal)
        # A common subsequence has at most the words in common, so this bound skips nearly all comparisons.
        common = sum((said & Counter(listed)).values())
        total = said.total() + len(listed)
        if total and 2 * common / total >= THRESHOLD - 1e-9 and rouge_l_f1(clean, refusal) >= THRESHOLD:
            return True
    return False


def without_unlearning_tokens(text: str) -> str:
    """The text without ``[UNL]`` and ``<unlearn_0>``, trimmed."""
    return UNLEARNING_TOKEN.sub(" ", text).strip()
