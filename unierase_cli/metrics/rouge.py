"""ROUGE against the true answer: how much of it comes back (spec: metrics, section 2; Lin 2004).

The headline is ROUGE-L recall with Porter stemming, as TOFU reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from unierase_cli.contracts import MetricResult, Observation
from unierase_cli.metrics.base import About, Column, Evidence, mean_result, on_every_split

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.scoring import Score
    from rouge_score.tokenizers import DefaultTokenizer

NAME = "rouge"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "ROUGE-L recall", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation]) -> MetricResult:
    """Mean ROUGE-L recall of the generated texts."""
    return mean_result(ABOUT, [rouge_l_recall(o.text, o.reference) for o in observations])


def columns(evidence: Evidence) -> Iterable[Column]:
    return on_every_split(evidence, ABOUT, compute, turns=True)


def rouge_l_recall(text: str, reference: str) -> float:
    """Longest common subsequence over the reference's words; 0 where either has none."""
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


def words(text: str) -> tuple[str, ...]:
    """The stemmed words that ROUGE compares."""
    return _Words().tokenize(text)


def _score(kind: str, text: str, reference: str) -> Score:
    return _scorer(kind).score(reference, text)[kind]


@cache
def _scorer(kind: str) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


class _Words:
    """rouge-score's own tokenizer with a memory: references, refusals and answers are compared many times."""

    def tokenize(self, text: str) -> tuple[str, ...]:
        return _stemmed(text)


@cache
def _default_tokenizer() -> DefaultTokenizer:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@cache
def _stemmed(text: str) -> tuple[str, ...]:
    return tuple(_default_tokenizer().tokenize(text))
