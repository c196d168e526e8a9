"""Cosine similarity of the generated and the true answer, by a sentence encoder; negative values count as 0.

Closer-look's CS (spec: metrics, section 3). Its encoder is paraphrase-MiniLM-L6-v2; values of two encoders are not comparable.
Short true answers (real authors, world facts) are replaced by a full sentence if the row has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence
from unierase_cli.metrics.judged import judged_columns, judged_mean, true_sentence
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import ENCODER

NAME = "cosine_similarity"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "cosine similarity", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], judges: Judges | None = None) -> Measure:
    """Mean clipped cosine similarity of the generated texts to the true answers."""
    asked = judges or Judges()
    return judged_mean(ABOUT, lambda: similarities(observations, asked))


def columns(evidence: Evidence) -> Iterable[Column]:
    return judged_columns(evidence, ABOUT, ENCODER, lambda rows: compute(rows, evidence.judges), turns=True)


def similarities(observations: Sequence[Observation], judges: Judges) -> list[float]:
    """max(0, cosine) per row. Raises JudgeAbsent."""
    if not observations:
        return []
    said = judges.encode([o.text for o in observations])
    true = judges.encode([true_sentence(o) for o in observations])
    return [float(value) for value in np.maximum(np.einsum("nd,nd->n", said, true), 0.0)]
