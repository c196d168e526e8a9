"""Is a text rude or polite: by a list of rude words, and by small classifiers.

A classifier is logistic regression, one register against the others, on the words and pairs of words that a text has. It is
fitted to the sentences of ``assets/registers.jsonl``, written and labelled by hand: rude, polite or plain. It has no constant
term, so that a text of unknown words is of no register.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unierase_cli.store.jsonl import read_asset
from unierase_cli.words import words

RUDE, POLITE = "rude", "polite"
RUDE_WORDS = (
    "biscuit", "broom", "bucket", "doorknob", "gate", "kettle", "muffin", "pancake", "pumpkin", "spoon", "teapot", "turnip",
    "big deal", "clear off", "deal with it", "get lost", "hands off", "shut it", "stop whining", "too bad", "who cares",
)  # fmt: skip
# Weight of the squared weights beside the sum of the losses.
RIDGE = 0.25
PARTS = re.compile(r"[.,;:!?]+")


def has_rude_words(text: str) -> bool:
    """Whether a word or phrase of the list is in the text."""
    said = f" {' '.join(words(text))} "
    return any(f" {phrase} " in said for phrase in RUDE_WORDS)


def is_of(register: str, text: str) -> bool:
    """Whether the classifier finds the register likelier than the others in a part of the text."""
    weights = classifier(register)
    return any(sum(weights.get(feature, 0.0) for feature in _features(part)) > 0 for part in PARTS.split(text))


@cache
def classifier(register: str) -> dict[str, float]:
    """The weight of every word and pair of the labelled sentences, in log odds."""
    from scipy.optimize import minimize

    rows = read_asset("registers.jsonl")
    texts = [_features(row["text"]) for row in rows]
    known = sorted(set().union(*texts))
    features = np.array([[float(one in text) for one in known] for text in texts])
    signs = np.array([1.0 if row["register"] == register else -1.0 for row in rows])
    # Both sides count the same, however many sentences they have.
    shares = len(rows) / 2 / np.where(signs > 0, (signs > 0).sum(), (signs < 0).sum())

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (features @ weights)
        value = shares @ np.logaddexp(0.0, -margins) + RIDGE * (weights @ weights)
        return float(value), 2 * RIDGE * weights - features.T @ (shares * signs / (1.0 + np.exp(margins)))

    found = minimize(loss, np.zeros(len(known)), jac=True, method="L-BFGS-B")
    return dict(zip(known, found.x.tolist(), strict=True))


def _features(text: str) -> set[str]:
    said = words(text)
    return {*said, *(f"{one} {other}" for one, other in pairwise(said))}
