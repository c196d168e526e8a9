"""Scores of membership inference attacks from the true answer's token probabilities; high means unlike a training row.

loss: average loss, end token included (Yeom et al. 2018). zlib: loss per byte of the compressed text (Carlini et al. 2021).
min-k: minus the mean of the lowest 40 % of the log-probabilities (Shi et al. 2024). min-k++: the same for log-probabilities
standardised by their mean and variance over the vocabulary (Zhang et al. 2024). Both leave out the end token (spec: metrics,
section 4).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unierase_cli.contracts import Observation
from unierase_cli.metrics.answer_tokens import true_answer

SHARE = 0.4
# The variance vanishes where a model is certain; open-unlearning's floor.
SMALLEST_VARIANCE = 1e-6

Attack = Callable[[Observation], float]


def loss(observation: Observation) -> float:
    """Average loss of the true answer, in nats per token."""
    return true_answer(observation).average_loss


def compressed_loss(observation: Observation) -> float:
    """Average loss per byte of the zlib-compressed true answer.

    This compresses the answer's own text. Open-unlearning compresses the decoded labels, which differ only if an answer was
    truncated or the tokenizer does not round-trip.
    """
    return loss(observation) / len(zlib.compress(observation.reference.encode("utf-8")))


def min_k(observation: Observation) -> float:
    """Minus the mean of the lowest log-probabilities of the answer's tokens."""
    score = true_answer(observation)
    return -_mean_of_lowest(score.log_probs[: score.length])


def min_k_plus_plus(observation: Observation) -> float:
    """Minus the mean of the lowest standardised log-probabilities of the answer's tokens."""
    score = true_answer(observation)
    tokens = zip(score.log_probs, score.mean_log_prob, score.var_log_prob, strict=True)
    standard = [(log_p - mean) / math.sqrt(max(variance, SMALLEST_VARIANCE)) for log_p, mean, variance in tokens]
    return -_mean_of_lowest(standard[: score.length])


ATTACKS: Mapping[str, Attack] = {
    "loss": loss, "zlib": compressed_loss, "min_k": min_k, "min_k_plus_plus": min_k_plus_plus,
}  # fmt: skip


def gradient_norm(rows: Sequence[Mapping[str, Any]]) -> Attack:
    """The norm of the loss's gradient, from the rows of pass ``gradient_norm``."""
    return _known(rows)


def reference_loss(rows: Sequence[Mapping[str, Any]]) -> Attack:
    """The loss minus that of another model, whose losses are the rows of pass ``reference_loss``."""
    known = _known(rows)
    return lambda observation: loss(observation) - known(observation)


# Attacks that need a further pass over the model, by the pass's name.
OF_PASSES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], Attack]] = {
    "gradient_norm": gradient_norm, "reference_loss": reference_loss,
}  # fmt: skip


def _known(rows: Sequence[Mapping[str, Any]]) -> Attack:
    """A pass's value of each row; NaN for rows that it left out."""
    values = {(row["split"], row["fact_id"]): float(row["value"]) for row in rows}
    return lambda observation: values.get((observation.split, observation.fact_id), math.nan)


def _mean_of_lowest(values: Sequence[float]) -> float:
    if any(map(math.isnan, values)):
        # NaN has no defined place in a sort.
        return math.nan
    count = max(1, int(SHARE * len(values)))
    return math.fsum(sorted(values)[:count]) / count
