"""Refusals by meaning: answers that are listed, or have a cosine of at least 0.5 to a listed refusal (UniErase's Idk).

The paper's encoder is all-MiniLM-L6-v2 (spec: metrics, section 5), set by ``eval.refusal_encoder``. Far more lenient than
``refusal_rate``: paraphrased refusals count, and so do refusals that drift into something else. An answer without words does not
count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from unierase_cli.contracts import NAME_SLOT, Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence, unavailable
from unierase_cli.metrics.judged import judged_columns, judged_mean
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import REFUSAL_ENCODER
from unierase_cli.metrics.refusal_rate import without_unlearning_tokens

NAME = "refusal_by_embedding"
VERSION = 2
# On rows that should be kept; on the forget split every answer should be one.
HIGHER_IS_BETTER = False
ABOUT = About(NAME, "refusals by meaning", VERSION, HIGHER_IS_BETTER)
THRESHOLD = 0.5


def compute(
    observations: Sequence[Observation],
    refusals: Sequence[str] = (),
    judges: Judges | None = None,
    names: Mapping[str, str] | None = None,
) -> Measure:
    """Share of answers that mean a listed refusal. ``names``: fact id -> name of its person, for ``__NAME__``."""
    if not refusals:
        return unavailable(ABOUT, "no refusals are listed", "give token.targets=FILE")
    asked, known = judges or Judges(), names or {}
    texts, called = [o.text for o in observations], [known.get(o.fact_id, NAME_SLOT) for o in observations]
    return judged_mean(ABOUT, lambda: [float(found) for found in are_refusals(texts, refusals, asked, called)])


def columns(evidence: Evidence) -> Iterable[Column]:
    def of(rows: Sequence[Observation]) -> Measure:
        return compute(rows, evidence.refusals, evidence.judges, evidence.names)

    return judged_columns(evidence, ABOUT, REFUSAL_ENCODER, of, turns=True)


def are_refusals(
    texts: Sequence[str], refusals: Sequence[str], judges: Judges, called: Sequence[str] | None = None
) -> list[bool]:
    """Whether each text, without unlearning tokens, is or means a listed refusal. Raises JudgeAbsent.

    ``called``: per text, the replacement of ``__NAME__`` in refusals.
    """
    if not texts:
        return []
    clean = [without_unlearning_tokens(text) for text in texts]
    vectors = judges.encode(clean, REFUSAL_ENCODER)
    named = called is not None and any(NAME_SLOT in refusal for refusal in refusals)
    places = defaultdict(list)
    for place in range(len(clean)):
        places[called[place] if called is not None and named else NAME_SLOT].append(place)
    found = [False] * len(clean)
    for name, mine in places.items():
        listed = [refusal.replace(NAME_SLOT, name) for refusal in refusals]
        closest = (vectors[mine] @ judges.encode(listed, REFUSAL_ENCODER).T).max(axis=1)
        exact = {refusal.strip() for refusal in listed}
        for place, near in zip(mine, closest.tolist(), strict=True):
            text = clean[place]
            found[place] = bool(text) and (text in exact or near >= THRESHOLD)
    return found
