"""ROUGE against the true answer: how much of it comes back (spec: metrics, section 2; Lin 2004).

The headline is ROUGE-L recall with Porter stemming, as TOFU reports it: identical on ASCII text. Other text is split into the words
of ``unierase_cli.words``, whereas ``rouge_score`` drops all but a to z and 0 to 9 ("García" is one word, not two). Only ASCII words
of more than three letters are stemmed. Also here: ROUGE-1 recall, and the F1 of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import DETAIL, About, Column, Evidence, mean_result, on_every_split, unavailable
from unierase_cli.words import has_words, mostly_latin, words

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.scoring import Score
    from rouge_score.tokenizers import DefaultTokenizer

NAME = "rouge"
VERSION = 2
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "ROUGE-L recall", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean ROUGE-L recall of the generated texts."""
    return mean_overlap(ABOUT, observations, rouge_l_recall)


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True)


def rouge_l_recall(text: str, reference: str) -> float:
    """Longest common subsequence divided by the reference's number of words; 0 if either text has no word."""
    return float(_score("rougeL", text, reference).recall)


def rouge_1_recall(text: str, reference: str) -> float:
    """Share of the reference's words that occur in the text."""
    return float(_score("rouge1", text, reference).recall)


def rouge_1_f1(text: str, reference: str) -> float:
    """Harmonic mean of ROUGE-1 precision and recall."""
    return float(_score("rouge1", text, reference).fmeasure)


def rouge_l_f1(text: str, reference: str) -> float:
    """Harmonic mean of ROUGE-L precision and recall."""
    return float(_score("rougeL", text, reference).fmeasure)


def plain_rouge_l(text: str, reference: str, *, split: bool = False) -> Score:
    """ROUGE-L without stemming, on the words of ``rouge_score`` or, with ``split``, on what white space separates.

    If most letters of the reference are not Latin, which ``rouge_score`` drops, on the words of ``unierase_cli.words``.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if split:
        scorer = RougeScorer(["rougeL"], tokenizer=_Split())
    else:
        scorer = RougeScorer(["rougeL"], tokenizer=None if mostly_latin([reference]) else _Unstemmed())
    return scorer.score(reference, text)["rougeL"]


def mean_overlap(about: About, observations: Sequence[Observation], score: Callable[[str, str], float]) -> Measure:
    """Mean of ``score(text, reference)``; unavailable if a true answer has no word."""
    return wordless(about, observations) or mean_result(about, [score(o.text, o.reference) for o in observations])


def wordless(about: About, observations: Sequence[Observation]) -> Measure | None:
    """Unavailable if a true answer is only emoji or punctuation, because the mean would be over fewer rows; else None.

    An empty one (in a published log) scores 0, as in ``rouge_score``.
    """
    found = [o for o in observations if o.reference.strip() and not has_words(o.reference)]
    if not found:
        return None
    return unavailable(
        about,
        f"{len(found)} of {len(observations)} true answers have no word to compare, the first is {found[0].reference!r} "
        f"({found[0].fact_id})",
        "answer in words, or leave these rows out",
    )


def recall_or_match(text: str, reference: str) -> float:
    """ROUGE-L recall; if the true answer has no word, whether the texts are equal."""
    return rouge_l_recall(text, reference) if has_words(reference) else float(text.strip() == reference.strip())


def stems(text: str) -> tuple[str, ...]:
    """The stemmed words that ROUGE compares."""
    return _stemmed(text)


def _score(kind: str, text: str, reference: str) -> Score:
    return _scorer(kind).score(reference, text)[kind]


@cache
def _scorer(kind: str) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


class Overlap:
    """A further metric of this file: the mean of ``score(text, reference)``."""

    def __init__(self, name: str, title: str, score: Callable[[str, str], float], about: str) -> None:
        self.NAME, self.VERSION, self.HIGHER_IS_BETTER = name, VERSION, HIGHER_IS_BETTER
        self.ABOUT = About(name, title, VERSION, HIGHER_IS_BETTER)
        self.score = score
        self.__doc__ = about

    def compute(self, observations: Sequence[Observation]) -> Measure:
        """Mean over the generated texts."""
        return mean_overlap(self.ABOUT, observations, self.score)

    def columns(self, evidence: Evidence) -> Iterable[Column]:
        return on_every_split(evidence, self.ABOUT, self.compute, turns=True, group=DETAIL)


ROUGE_1_RECALL = Overlap(
    "rouge_1_recall",
    "ROUGE-1 recall",
    rouge_1_recall,
    "ROUGE-1 recall: share of the true answer's words that the answer has, in any order (Lin 2004; TOFU logs it beside ROUGE-L).",
)
ROUGE_1_F1 = Overlap(
    "rouge_1_f1",
    "ROUGE-1 F1",
    rouge_1_f1,
    "ROUGE-1 F1: unlike recall, it also penalises text beyond the true answer (Lin 2004).",
)
ROUGE_L_F1 = Overlap(
    "rouge_l_f1",
    "ROUGE-L F1",
    rouge_l_f1,
    "ROUGE-L F1: unlike recall, it also penalises text beyond the true answer (Lin 2004; open-unlearning logs it).",
)
MORE = (ROUGE_1_RECALL, ROUGE_1_F1, ROUGE_L_F1)


class _Words:
    """A cached tokenizer: references, refusals and answers are compared many times."""

    def tokenize(self, text: str) -> tuple[str, ...]:
        return _stemmed(text)


class _Unstemmed:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _Split:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


@cache
def _default_tokenizer() -> DefaultTokenizer:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@cache
def _stemmed(text: str) -> tuple[str, ...]:
    stem = _default_tokenizer().tokenize
    if text.isascii():
        return tuple(stem(text))
    return tuple(part for word in words(text) for part in (stem(word) if word.isascii() else (word,)))
