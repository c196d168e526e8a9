"""Membership inference: can an attacker tell forget rows from rows that the model was never trained on?

Area under the ROC curve of an attack's score (high for non-members) over forget rows and split ``holdout`` (spec: metrics,
section 4). 1: the forget set is clearly remembered. 0.5: it looks like unseen rows. Below 0.5: it looks even less familiar than
unseen rows, which also reveals the unlearning. The best value is that of a model without the forget set, see ``privleak``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics.answer_tokens import lacking
from unierase_cli.metrics.attacks import ATTACKS, OF_PASSES, Attack
from unierase_cli.metrics.base import DETAIL, FORGET, About, Column, Evidence, not_observed, unavailable
from unierase_cli.metrics.separation import area_under_curve
from unierase_cli.metrics.statistics.bootstrap import two_sample_interval

NAME = "membership"
VERSION = 1
HIGHER_IS_BETTER = None
HOLDOUT = "holdout"
TITLES = {
    "loss": "membership AUC, loss",
    "zlib": "membership AUC, loss per compressed byte",
    "min_k": "membership AUC, min-k",
    "min_k_plus_plus": "membership AUC, min-k++",
    "gradient_norm": "membership AUC, gradient norm",
    "reference": "membership AUC, loss beyond a reference model",
}


def compute(
    observations: Sequence[Observation], holdout: Sequence[Observation] = (), attack: str = "min_k"
) -> Measure:
    """AUC of one of ``ATTACKS`` on the forget split's observations against those of the holdout split."""
    return area(about(attack), observations, holdout, ATTACKS[attack])


def columns(evidence: Evidence) -> Iterable[Column]:
    """One column per attack; attacks that need a further pass appear only if it was run."""
    wanted = dict(ATTACKS)
    for name, attack_of in OF_PASSES.items():
        if name in evidence.passes:
            wanted[name.removesuffix("_loss")] = attack_of(evidence.passes[name])
    for name, attack in wanted.items():
        known = about(name)
        result = area(known, evidence.rows(FORGET), evidence.rows(HOLDOUT), attack)
        yield Column(known.name, known.title, FORGET, DETAIL, result)


def about(attack: str) -> About:
    """Name and title of an attack's column, such as ``mia_min_k``."""
    return About(f"mia_{attack}", TITLES[attack], VERSION, HIGHER_IS_BETTER)


def area(about: About, forget: Sequence[Observation], holdout: Sequence[Observation], attack: Attack) -> Measure:
    """Probability that a random holdout row scores higher than a random forget row; ties count half."""
    if not forget or not holdout:
        return not_observed(about, HOLDOUT if forget else FORGET)
    if missing := lacking(about, [*forget, *holdout]):
        return missing
    members, strangers = [attack(o) for o in forget], [attack(o) for o in holdout]
    wrong = sum(not math.isfinite(score) for score in [*members, *strangers])
    if wrong:
        return unavailable(
            about,
            f"{wrong} of {len(members) + len(strangers)} rows have no finite score",
            "observe forget and holdout alike, with model.dtype=float32 if the model overflows",
        )
    value = float(area_under_curve(np.array([strangers]), np.array([members]))[0])
    interval = two_sample_interval(strangers, members, area_under_curve)
    return about.measure(value, len(members) + len(strangers), interval)
