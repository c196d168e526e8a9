"""Scores of answers: agreement, relevance, diversity (Vendi score), and their weighted harmonic mean.

Relevance and diversity are combined as Reveal-and-Release does (Xie et al. 2025, arXiv 2509.14624). Without forget data,
the agreement of drawn answers is the only sign that a model knows an answer; it replaces their task metric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from unierase_cli.contracts import stable_hash
from unierase_cli.metrics.rouge import rouge_l_f1
from unierase_cli.words import words

# Length of a text's vector; words are hashed into it.
WIDTH = 512


def agreement(answer: str, others: Sequence[str]) -> float:
    """Mean ROUGE-L F1 of other answers to the same question against ``answer``; 0 if there are none."""
    return sum(rouge_l_f1(other, answer) for other in others) / len(others) if others else 0.0


def vendi_score(texts: Sequence[str]) -> float:
    """Effective number of different texts, from 1 to their number: exp of the entropy of the eigenvalues of K / n.

    Friedman and Dieng 2023 (arXiv 2210.02410), with K the cosine similarities of hashed TF-IDF vectors. 0 without texts.
    """
    if not texts:
        return 0.0
    counts = [Counter(words(text)) for text in texts]
    documents = Counter(word for count in counts for word in count)
    vectors = np.zeros((len(texts), WIDTH))
    for row, count in enumerate(counts):
        for word, times in count.items():
            # The added 1 keeps words that all texts have, so that equal texts are equal and not empty.
            weight = times * (1.0 + math.log(len(texts) / documents[word]))
            vectors[row, stable_hash("vendi", word) % WIDTH] += weight
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1.0)
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(texts)).clip(min=0.0)
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def relevance(agreed: float, refused: float, mentioned: float) -> float:
    """Agreement x (1 - share of refusals) x share of answers about the target."""
    return agreed * (1.0 - refused) * mentioned


def combined(relevant: float, diverse: float, beta: float) -> float:
    """Weighted harmonic mean (1 + b^2) R D / (b^2 R + D); ``beta`` above 1 gives diversity more weight."""
    below = beta**2 * relevant + diverse
    return (1 + beta**2) * relevant * diverse / below if below > 0 else 0.0
