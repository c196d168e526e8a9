"""TOFU's forget quality: are the unlearned model's truth ratios distinguishable from those of a model without the forget set?

The p-value of a two-sided two-sample Kolmogorov-Smirnov test on the per-row truth ratios (geometric) of the forget split (spec:
metrics, section 2). The test depends on ranks only, so it uses log R, which cannot overflow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.base import FORGET, FORGETTING, About, Column, Evidence, Reference, not_observed, unavailable
from unierase_cli.metrics.probability import no_wrong_answers
from unierase_cli.metrics.truth_ratio import log_ratio, scorable

NAME = "forget_quality"
VERSION = 1
HIGHER_IS_BETTER = True
ABOUT = About(NAME, "forget quality (KS p-value)", VERSION, HIGHER_IS_BETTER)
NO_REFERENCE = (
    "there is no retain reference, a model trained without the forget set",
    "observe one and give its folder, eval.retain_reference=FOLDER, or have it made: eval.retain_reference=train",
)

OTHER_PROMPT = (
    "the retain reference was asked with another prompt, or is a model with another tokenizer",
    "observe it with this protocol and model.prompt",
)


def compute(observations: Sequence[Observation], reference: Reference | None = None) -> Measure:
    """p-value of the forget split's observations against the retain reference, which must cover the same facts."""
    known = reference.observations.get((FORGET, "plain"), ()) if reference else ()
    ratios = reference.truth_ratios if reference else ()
    if not known and not ratios:
        return unavailable(ABOUT, *NO_REFERENCE)
    others = {o.row_hash for o in observations} != {o.row_hash for o in known} if known else len(ratios) != len(observations)
    if others:
        return unavailable(
            ABOUT, "the retain reference was asked other forget questions", "observe it on this benchmark.split"
        )
    if asked_otherwise(observations, known):
        return unavailable(ABOUT, *OTHER_PROMPT)
    if not all(scorable(o) for o in [*observations, *known]):
        return no_wrong_answers(ABOUT, "some", [*observations, *known])
    retained = [log_ratio(o) for o in known] or [_log(ratio) for ratio in ratios]
    unlearned = [log_ratio(o) for o in observations]
    if wrong := sum(map(math.isnan, [*unlearned, *retained])):
        return unavailable(ABOUT, f"{wrong} truth ratios are not numbers", "look for overflow: try model.dtype=float32")
    value = ks_p_value(unlearned, retained)
    return ABOUT.measure(value, len(observations))


def columns(evidence: Evidence) -> Iterable[Column]:
    rows = evidence.rows(FORGET)
    result = compute(rows, evidence.reference) if rows else not_observed(ABOUT, FORGET)
    yield Column(NAME, ABOUT.title, FORGET, FORGETTING, result)


def asked_otherwise(observations: Sequence[Observation], known: Sequence[Observation]) -> bool:
    """Whether a row that both models answered has different prompts or prompt tokens."""
    prompts = {o.row_hash: o.prompt_hash for o in known}
    return any(prompts.get(o.row_hash, o.prompt_hash) != o.prompt_hash for o in observations)


def _log(ratio: float) -> float:
    return -math.inf if ratio == 0 else math.log(ratio) if ratio > 0 else math.nan


def ks_p_value(unlearned: Sequence[float], retained: Sequence[float]) -> float:
    """Two-sided two-sample KS p-value; exact for samples of this size (scipy's default)."""
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        # With a few equal rows scipy cannot count the orderings and falls back to its asymptotic value, also 1 there.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ks_2samp(unlearned, retained).pvalue)
