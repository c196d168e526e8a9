"""Teacher-forced probability of the true answer, per token (spec: metrics, sections 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import (
    FORGET,
    OPTION_SPLITS,
    About,
    Column,
    Evidence,
    column_of,
    mean_result,
    on_every_split,
    unavailable,
)

NAME = "probability"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "probability", VERSION, HIGHER_IS_BETTER)
NORMALISED = About("probability_normalised", "probability among options", VERSION, HIGHER_IS_BETTER)
# Scores of paraphrases or of other rows' wrong answers show that wrong answers were asked for, so the file lacks them.
GIVE = "give these rows wrong_answers in the benchmark's file"
MEND = f"{GIVE} if they have none, else run `unierase eval eval.truth_ratio=true eval.truth_ratio_splits=[]`"


def no_wrong_answers(about: About, which: str, observations: Sequence[Observation]) -> Measure:
    """Unavailable because ``which`` rows have no scored wrong answers, with the remedy."""
    asked = any(o.answers.get("paraphrased") or o.answers.get("wrong") for o in observations)
    return unavailable(about, f"{which} rows have no scored wrong answers", GIVE if asked else MEND)


def compute(observations: Sequence[Observation]) -> Measure:
    """Mean of exp(-average loss) of the true answer with its end token: P(answer | question)^(1/tokens)."""
    missing = [o for o in observations if "true" not in o.answers]
    if missing:
        return unavailable(
            ABOUT, f"{len(missing)} rows have no score of the true answer (only plain answers are scored)"
        )
    return mean_result(ABOUT, [answer_probability(o) for o in observations])


def compute_normalised(observations: Sequence[Observation]) -> Measure:
    """Mean of p(true) / (p(true) + sum of p(wrong)), as TOFU scores real authors and world facts."""
    missing = [o for o in observations if "true" not in o.answers or not o.answers.get("wrong")]
    if missing:
        return no_wrong_answers(NORMALISED, f"{len(missing)} of {len(observations)}", observations)
    values = []
    for o in observations:
        true = answer_probability(o)
        total = true + math.fsum(math.exp(-score.average_loss) for score in o.answers["wrong"])
        values.append(0.0 if total == 0 else true / total)
    return mean_result(NORMALISED, values)


def columns(evidence: Evidence) -> Iterable[Column]:
    yield from on_every_split(evidence, ABOUT, compute, turns=True)
    for split in evidence.splits():
        if split in OPTION_SPLITS and split != FORGET:
            yield column_of(evidence, NORMALISED, compute_normalised, split)


def answer_probability(observation: Observation) -> float:
    """exp(-average loss) of the true answer."""
    return math.exp(-observation.answers["true"][0].average_loss)
