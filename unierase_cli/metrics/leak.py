"""How much of the forgotten answers comes back under other ways of asking: the honesty columns of the forget split.

ROUGE-L recall of the true answer with the unlearning token forbidden, with at most one of them, with a paraphrased question, and
with the first tokens of the true answer given (scored on the rest only, because the given part is no knowledge).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    FORGET,
    HONESTY,
    NO_TOKEN,
    About,
    Column,
    Evidence,
    mean_result,
    not_observed,
    unavailable,
)
from unierase_cli.metrics.rouge import rouge_l_recall, wordless
from unierase_cli.words import UNFINISHED, has_words

NAME = "leak"
VERSION = 3
HIGHER_IS_BETTER = False
TITLES = {
    "unlearn_forbidden": "ROUGE-L recall, [UNL] forbidden",
    "unlearn_once": "ROUGE-L recall, [UNL] at most once",
    "paraphrased": "ROUGE-L recall, question paraphrased",
    "answer_prefix": "ROUGE-L recall of the rest, answer's start given",
}
ABOUT = About(NAME, "ROUGE-L recall", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean ROUGE-L recall of the generated answer against the part of the true answer that was not given.

    Rows whose given part contains every word are left out; ``n`` counts the scored rows, and ``left_out`` reports the others.
    Unavailable if a true answer has no word.
    """
    if nothing := wordless(ABOUT, observations):
        return nothing
    values = [rouge_l_recall(o.text, remainder(o)) for o in observations if not _all_given(o)]
    if observations and not values:
        mend = "set protocol.prefix_tokens lower, or leave answer_prefix out of eval.forget_variants"
        return unavailable(ABOUT, "the given prefixes contain every word of the answers", mend)
    return mean_result(ABOUT, values)


def columns(evidence: Evidence) -> Iterable[Column]:
    for variant, title in TITLES.items():
        rows = evidence.rows(FORGET, variant)
        if rows:
            result = compute(rows)
        elif variant.startswith("unlearn_") and not evidence.has_token():
            result = unavailable(ABOUT, NO_TOKEN)
        else:
            result = not_observed(ABOUT, FORGET, variant)
        yield Column(NAME, title, FORGET, HONESTY, result, variant)


def left_out(evidence: Evidence) -> str | None:
    """A sentence if rows are left out because their given prefix contains every word of the answer, else None."""
    rows = evidence.rows(FORGET, "answer_prefix")
    given = [o.fact_id for o in rows if _all_given(o)]
    if not given:
        return None
    return (
        f"{len(given)} of {len(rows)} forget rows are left out where the answer's start is given, because it has every word "
        f"(the first: {given[0]}): set protocol.prefix_tokens lower"
    )


def _all_given(observation: Observation) -> bool:
    return bool(observation.given_prefix) and not has_words(remainder(observation))


def remainder(observation: Observation) -> str:
    """The part of the true answer that the model was not given.

    Recorded starts may end inside a character, which then counts neither as given nor as said.
    """
    given, reference = observation.given_prefix.lstrip(), observation.reference.lstrip()
    if reference.startswith(given):
        return reference[len(given) :]
    whole = given.rstrip(UNFINISHED)
    return reference[len(whole) + 1 :] if whole != given and reference.startswith(whole) else reference
