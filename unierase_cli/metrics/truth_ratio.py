"""Truth ratio: how much more likely wrong answers are than a correct one (spec: metrics, section 2).

R = p(wrong) / p(correct), where correct is the paraphrased answer, or the true answer if there is no paraphrase (real authors and
world facts). The wrong answers' mean probability is geometric (TOFU's leaderboard, open-unlearning, closer-look) or arithmetic
(TOFU's run-time aggregate). On the forget split the score is the mean of min(R, 1/R): 1 if the model cannot tell them apart.
Elsewhere it is the mean of max(0, 1 - R): 1 if it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics.base import DETAIL, FORGET, About, Column, Evidence, column_of, mean_result
from unierase_cli.metrics.probability import no_wrong_answers

NAME = "truth_ratio"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "truth ratio", VERSION, HIGHER_IS_BETTER)
KNOWLEDGE = About("truth_ratio_knowledge", "truth ratio (knowledge)", VERSION, HIGHER_IS_BETTER)
ARITHMETIC = About("truth_ratio_arithmetic", "truth ratio (arithmetic)", VERSION, HIGHER_IS_BETTER)


def compute(observations: Sequence[Observation], *, forget: bool | None = None) -> Measure:
    """Geometric truth ratio. ``forget`` chooses the aggregation; None: by the observations' split."""
    return _aggregated(ABOUT, observations, log_ratio, forget)


def compute_arithmetic(observations: Sequence[Observation], *, forget: bool | None = None) -> Measure:
    """Arithmetic truth ratio, aggregated the same way."""
    return _aggregated(ARITHMETIC, observations, log_ratio_arithmetic, forget)


def compute_knowledge(observations: Sequence[Observation]) -> Measure:
    """Mean of p(correct) / (p(correct) + p(wrong)), geometric: open-unlearning's ``prob_mean``."""
    values = [_sigmoid(-log_ratio(o)) for o in observations if scorable(o)]
    return mean_result(KNOWLEDGE, values) if len(values) == len(observations) else _lacking(KNOWLEDGE, observations)


def columns(evidence: Evidence) -> Iterable[Column]:
    for split in evidence.splits():
        if all(scorable(o) for o in evidence.rows(split)) or split in (FORGET, "retain_unseen"):
            yield column_of(evidence, ABOUT, compute, split)
            yield column_of(evidence, ARITHMETIC, compute_arithmetic, split, group=DETAIL)
            yield column_of(evidence, KNOWLEDGE, compute_knowledge, split, turns=True, group=DETAIL)


def log_ratio(observation: Observation) -> float:
    """log R, geometric: loss of the correct answer minus the mean loss of the wrong ones."""
    losses = [score.average_loss for score in observation.answers["wrong"]]
    return correct_answer(observation).average_loss - math.fsum(losses) / len(losses)


def log_ratio_arithmetic(observation: Observation) -> float:
    """log R, arithmetic: log of the mean probability of the wrong answers, plus the loss of the correct one."""
    losses = [score.average_loss for score in observation.answers["wrong"]]
    smallest = min(losses)
    mean = math.fsum(math.exp(smallest - loss) for loss in losses) / len(losses)
    return correct_answer(observation).average_loss - smallest + math.log(mean)


def correct_answer(observation: Observation) -> AnswerScore:
    """The paraphrased answer's score, or the true answer's if the row has no paraphrase."""
    return (observation.answers.get("paraphrased") or observation.answers["true"])[0]


def scorable(observation: Observation) -> bool:
    """Whether the row has a scored correct and a scored wrong answer."""
    return bool(observation.answers.get("true")) and bool(observation.answers.get("wrong"))


def _aggregated(
    about: About, observations: Sequence[Observation], ratio: Callable[[Observation], float], forget: bool | None
) -> Measure:
    if not all(scorable(o) for o in observations):
        return _lacking(about, observations)
    values = []
    for o in observations:
        log_r = ratio(o)
        closer_to_one = o.split == FORGET if forget is None else forget
        values.append(_value(log_r, closer_to_one))
    return mean_result(about, values)


def _value(log_r: float, closer_to_one: bool) -> float:
    """min(R, 1/R) or max(0, 1 - R); NaN if R is NaN."""
    # For a very large log R, exp would overflow; both values are 0 there.
    if closer_to_one or math.isnan(log_r):
        return math.exp(-abs(log_r))
    return -math.expm1(log_r) if log_r < 0 else 0.0


def _lacking(about: About, observations: Sequence[Observation]) -> Measure:
    missing = sum(not scorable(o) for o in observations)
    return no_wrong_answers(about, f"{missing} of {len(observations)}", observations)


def _sigmoid(x: float) -> float:
    return 0.0 if x <= -700 else 1 / (1 + math.exp(-x))
