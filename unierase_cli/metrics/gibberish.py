"""Whether the generated text is clean: a gibberish detector's probability of its first class (spec: metrics, section 4).

High is good on every split: a model should stay fluent when it forgets. Open-unlearning's detector is
madhurjindal/autonlp-Gibberish-Detector-492513457, applied to the first 32 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import About, Column, Evidence
from unierase_cli.metrics.judged import judged_columns, judged_mean
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import GIBBERISH

NAME = "gibberish"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "clean text, by the gibberish detector", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], judges: Judges | None = None) -> Measure:
    """Mean probability that a generated text is clean."""
    asked = judges or Judges()
    return judged_mean(ABOUT, lambda: asked.clean([o.text for o in observations]))


def columns(evidence: Evidence) -> Iterable[Column]:
    return judged_columns(evidence, ABOUT, GIBBERISH, lambda rows: compute(rows, evidence.judges))
