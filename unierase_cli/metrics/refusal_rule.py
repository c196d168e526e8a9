"""Refusals by a rule for English that needs no list: answers that only say that the speaker doesn't know, can't or won't.

Rule, version 2, on the text without unlearning tokens, clause by clause (``refusal_patterns``): at least one clause refuses, and
every other clause adds nothing to it (an apology, an offer of help). A text that also states something is an answer: "I'm not sure,
but it is Paris", "I don't know it is Paris". So is a text that repeats the true answer, which may itself be that nothing is known.
The README of this folder gives the agreement with manual labels.

The version is part of the name, so numbers of two versions are never compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    DETAIL,
    OVERALL,
    About,
    Column,
    Evidence,
    mean_result,
    on_every_split,
    unavailable,
    when_paraphrased,
)
from unierase_cli.metrics.over_refusal import PASS
from unierase_cli.metrics.refusal_rate import without_unlearning_tokens
from unierase_cli.metrics.rouge import rouge_l_recall
from unierase_cli.words import mostly_latin

VERSION = 2
NAME = f"refusal_rule_v{VERSION}"
# On rows that should be kept; on the forget split every answer should be one.
HIGHER_IS_BETTER = False
# Each row is yes (1) or no (0).
YES_NO = True
ABOUT = About(NAME, f"refusals by rule v{VERSION}", VERSION, HIGHER_IS_BETTER)
UNRELATED = About(f"over_{NAME}", f"unrelated requests refused, by rule v{VERSION}", VERSION, HIGHER_IS_BETTER)
# An answer with this ROUGE-L recall repeats the true answer.
TOLD = 0.8
ELSEWHERE = "count the listed refusals (refusal_rate), or name eval.refusal_encoder"
# Words of English refusals that sentences of other languages hardly ever contain.
ENGLISH = frozenset(
    (
        *("the", "that", "this", "not", "know", "knowledge", "my", "you", "your", "have", "answer", "sorry", "about"),
        *("unable", "cannot", "can't", "don't", "i'm"),
    )
)


def compute(observations: Sequence[Observation], refusals: Sequence[str] = ()) -> Measure:
    """Share of answers that are refusals by the rule above. ``refusals``: the list in use, only checked to be English."""
    return _share(ABOUT, observations, refusals)


def columns(evidence: Evidence) -> Iterable[Column]:
    def of(rows: Sequence[Observation]) -> Measure:
        return compute(rows, evidence.refusals)

    yield from on_every_split(evidence, ABOUT, of, turns=True)
    yield from when_paraphrased(evidence, ABOUT, of)
    unrelated = [Observation.from_json(row) for row in evidence.passes.get(PASS, ())]
    if unrelated:
        result = _share(UNRELATED, unrelated, evidence.refusals)
        yield Column(UNRELATED.name, UNRELATED.title, OVERALL, DETAIL, result)


def is_refusal(text: str, truth: str | None = None) -> bool:
    """Whether an English text is a refusal by the rule above. ``truth``: the true answer, if known."""
    # Compiling the patterns takes longer than reading a whole report, which only needs this file's names.
    from unierase_cli.metrics.refusal_patterns import answers_nothing, clauses, only_talk, refuses

    clean = without_unlearning_tokens(text)
    refusing = False
    for clause in clauses(clean):
        if refuses(clause):
            refusing = True
        elif not answers_nothing(clause):
            return False
    # A true answer like "No" occurs in many refusals.
    return refusing and not (truth and not only_talk(truth) and rouge_l_recall(clean, truth) >= TOLD)


def _share(about: About, observations: Sequence[Observation], refusals: Sequence[str]) -> Measure:
    if refusals and not _english(refusals):
        return unavailable(about, "the rule is for English and the listed refusals are not", ELSEWHERE)
    if not mostly_latin(without_unlearning_tokens(o.text) for o in observations):
        return unavailable(
            about, "the rule is for English and most words of the answers are in another script", ELSEWHERE
        )
    return mean_result(about, [float(is_refusal(o.text, o.reference)) for o in observations])


def _english(texts: Sequence[str]) -> bool:
    """Whether at least half of the texts are refusals by the rule or contain a word of ENGLISH."""
    return 2 * sum(is_refusal(text) or _has_english(text) for text in texts) >= len(texts)


def _has_english(text: str) -> bool:
    return not ENGLISH.isdisjoint(text.replace("’", "'").casefold().strip(".?! ").split())
