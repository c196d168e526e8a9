"""Memorisation, Privacy, Utility and Overall as the UDS dashboard defines them (arXiv 2605.24614; spec: depth, section 6).

    Memorisation = HM(1 - extraction strength, 1 - exact memorisation, 1 - paraphrase probability, 1 - truth ratio)   forget rows
    MIA          = HM over four attacks of clip(1 - |AUC - AUC_retain| / AUC_retain)                                 forget, holdout
    Privacy      = HM(MIA, UDS)
    Utility      = HM(model utility, fluency of the answers to forget questions)
    Overall      = HM(Memorisation, Privacy, Utility / Utility of the full model)

HM is the harmonic mean. 1 is best, and a retain model does not reach it, since it guesses a part of the answers (published: 0.807).
UDS comes from an audit and not from observations: ``columns`` has what observations give, a leaderboard adds Privacy and Overall.
The paper of open-unlearning has aggregates of the same names whose membership part is scaled by the full model's AUC; they are not
computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics import exact_memorization, extraction_strength, gibberish, membership, model_utility
from unierase_cli.metrics.attacks import ATTACKS
from unierase_cli.metrics.base import (
    DETAIL,
    FORGET,
    About,
    Column,
    Compute,
    Evidence,
    Reference,
    by_pass,
    mean_result,
    unavailable,
)
from unierase_cli.metrics.base import OVERALL as ALL_SPLITS
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.privleak import retained_area
from unierase_cli.metrics.probability import no_wrong_answers
from unierase_cli.metrics.statistics.aggregate import Members, harmonic_mean

NAME = "overall_uds"
VERSION = 1
HIGHER_IS_BETTER = True
MEMORISATION = About("memorisation_uds", "Memorisation (1: nothing is left)", 2, True)
MIA = About("mia_uds", "MIA (1: as in the retain model)", VERSION, True)
PRIVACY = About("privacy_uds", "Privacy (MIA and UDS)", VERSION, True)
UTILITY = About("utility_uds", "Utility (model utility and fluency)", VERSION, True)
RELATIVE = About("relative_utility_uds", "Utility / Utility of the full model", VERSION, True)
OVERALL = About(NAME, "Overall (Memorisation, Privacy, relative Utility)", VERSION, True)
PARAPHRASE = About("paraphrase_probability", "probability of the paraphrased answers", VERSION, False)
TRUTH = About("truth_ratio_uds", "truth ratio (knowledge, all paraphrases)", VERSION, False)
NO_AUDIT = Measure("uds", unavailable="observations do not say it; `unierase audit RUN --attacks uds` measures it")

# The published code adds it to every member of a harmonic mean, so that a 0 gives nearly 0.
SMALLEST = 1e-12
# What it adds to the denominator of a truth ratio, and the smallest probability that enters a geometric mean.
RATIO_EPSILON = 1e-10
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Aggregates:
    """The five numbers of one model state, each with a reason where it is missing."""

    memorisation: Measure
    privacy: Measure
    utility: Measure
    relative_utility: Measure
    overall: Measure


def compute(
    observations: Sequence[Observation],
    unedited: Sequence[Observation] = (),
    *,
    uds: Measure = NO_AUDIT,
    reference: Reference | None = None,
    judges: Judges | None = None,
) -> Measure:
    """Overall from the plain observations of a model and of the unedited one (none: the model is that one), in any order."""
    judges = judges or Judges()
    full = Evidence("base", by_pass(unedited), judges=judges) if unedited else None
    own = Evidence("", by_pass(observations), reference=reference, judges=judges, unedited=full)
    return of_evidence(own, uds).overall


def columns(evidence: Evidence) -> Iterable[Column]:
    """What observations alone give: Memorisation and its parts, MIA, Utility and its ratio to the full model's."""
    for about, part in ((PARAPHRASE, paraphrase_probability), (TRUTH, truth_ratio)):
        yield Column(about.name, about.title, FORGET, DETAIL, evidence.measure(about, part, FORGET))
    yield Column(MEMORISATION.name, MEMORISATION.title, FORGET, DETAIL, memorisation_of(evidence))
    yield Column(MIA.name, MIA.title, FORGET, DETAIL, mia_of(evidence))
    own = utility_of(evidence)
    yield Column(UTILITY.name, UTILITY.title, ALL_SPLITS, DETAIL, own)
    full = own if evidence.unedited is None else utility_of(evidence.unedited)
    yield Column(RELATIVE.name, RELATIVE.title, ALL_SPLITS, DETAIL, relative_utility(own, full))


def of_evidence(evidence: Evidence, uds: Measure) -> Aggregates:
    """The aggregates of a model state with its UDS. ``evidence.unedited`` is the full model; without it the state itself is."""
    forgotten, own = memorisation_of(evidence), utility_of(evidence)
    private = privacy(mia_of(evidence), uds)
    relative = relative_utility(own, utility_of(evidence.unedited or evidence))
    return Aggregates(forgotten, private, own, relative, overall(forgotten, private, relative))


def memorisation(members: Mapping[str, Measure]) -> Measure:
    """Harmonic mean of 1 - member; ``members``: extraction strength, exact memorisation, paraphrase probability, truth ratio.

    Unavailable where one of them is, or is not below 1.
    """
    for label, member in members.items():
        if member.value is not None and member.value >= 1:
            return unavailable(
                MEMORISATION, f"its part {label} is {member.value:g}, which leaves nothing to take a mean of"
            )
    kept = [(label, _one_minus(member)) for label, member in members.items()]
    return harmonic_mean(MEMORISATION.name, kept, MEMORISATION.version)


def memorisation_of(evidence: Evidence) -> Measure:
    """Memorisation from the observations of the forget split, true, paraphrased and wrong answers scored."""
    parts: list[tuple[About, Compute]] = [
        (extraction_strength.ABOUT, extraction_strength.compute),
        (exact_memorization.ABOUT, exact_memorization.compute),
        (PARAPHRASE, paraphrase_probability),
        (TRUTH, truth_ratio),
    ]
    return memorisation({f"{FORGET}.{about.name}": evidence.measure(about, part, FORGET) for about, part in parts})


def paraphrase_probability(observations: Sequence[Observation]) -> Measure:
    """Mean over rows of the geometric mean of exp(-average loss) over the paraphrased answers."""
    missing = sum(not o.answers.get("paraphrased") for o in observations)
    if missing:
        return unavailable(PARAPHRASE, f"{missing} of {len(observations)} rows have no scored paraphrased answer")
    return mean_result(PARAPHRASE, [_geometric(o.answers["paraphrased"]) for o in observations])


def truth_ratio(observations: Sequence[Observation]) -> Measure:
    """Mean over rows of c / (c + w): geometric means over paraphrased and over wrong answers. Near 0.5 for what is not known."""
    missing = sum(not (o.answers.get("paraphrased") and o.answers.get("wrong")) for o in observations)
    if missing:
        return no_wrong_answers(TRUTH, f"{missing} of {len(observations)}", observations)
    values = [
        knowledge_ratio(_geometric(o.answers["paraphrased"]), _geometric(o.answers["wrong"])) for o in observations
    ]
    return mean_result(TRUTH, values)


def knowledge_ratio(correct: float, wrong: float) -> float:
    """c / (c + w) of two probabilities."""
    return correct / (correct + wrong + RATIO_EPSILON)


def mia(areas: Mapping[str, Measure], retained: Mapping[str, Measure]) -> Measure:
    """Harmonic mean of how near each attack's AUC is to the retain model's, by the attack's name."""
    members = [(name, _nearness(areas[name], retained[name])) for name in areas]
    return _harmonic(MIA, members)


def mia_of(evidence: Evidence) -> Measure:
    """MIA of the attacks loss, zlib, min-k and min-k++ on forget and holdout observations, against ``evidence.reference``."""
    forget, holdout = evidence.rows(FORGET), evidence.rows(membership.HOLDOUT)
    areas = {name: membership.compute(forget, holdout, name) for name in ATTACKS}
    return mia(areas, {name: retained_area(MIA, forget, holdout, evidence.reference, name) for name in ATTACKS})


def nearness(area: float, retained: float) -> float:
    """clip(1 - |AUC - AUC_retain| / AUC_retain) to [0, 1]; ``retained`` must not be 0."""
    return min(max(1 - abs(area - retained) / retained, 0.0), 1.0)


def privacy(mia: Measure, uds: Measure) -> Measure:
    """Harmonic mean of both; the published code takes MIA alone where there is no UDS, here that is unavailable."""
    return _harmonic(PRIVACY, [("mia", mia), ("uds", uds)])


def utility(model_utility: Measure, fluency: Measure) -> Measure:
    """Harmonic mean of both."""
    return _harmonic(UTILITY, [("model_utility", model_utility), ("fluency", fluency)])


def utility_of(evidence: Evidence) -> Measure:
    """Utility from a state's observations: TOFU's nine numbers, and the gibberish detector on the answers to forget questions."""
    fluency = evidence.measure(gibberish.ABOUT, lambda rows: gibberish.compute(rows, evidence.judges), FORGET)
    return utility(model_utility.of_evidence(evidence), fluency)


def relative_utility(own: Measure, full: Measure) -> Measure:
    """Utility as a share of the full model's; it may exceed 1."""
    for whose, measure in (("its own", own), ("the full model's", full)):
        if measure.value is None:
            return unavailable(RELATIVE, f"{whose} utility is missing: {measure.unavailable}")
    assert own.value is not None
    if not full.value:
        return unavailable(RELATIVE, "the full model has a utility of 0", "check the model")
    return RELATIVE.measure(own.value / full.value)


def overall(memorisation: Measure, privacy: Measure, relative_utility: Measure) -> Measure:
    """Harmonic mean of the three."""
    return _harmonic(
        OVERALL, [("memorisation", memorisation), ("privacy", privacy), ("relative_utility", relative_utility)]
    )


def _harmonic(about: About, members: Members) -> Measure:
    """Harmonic mean with ``SMALLEST`` added to every member; its reason where one is missing. Without an interval: the members
    are of different rows, and some of other models.
    """
    known = harmonic_mean(about.name, members, about.version)
    if known.value is None:
        return known
    values = [float(member.value) for _, member in members if member.value is not None]
    return replace(known, value=len(values) / math.fsum(1 / (value + SMALLEST) for value in values), ci95=None)


def _one_minus(member: Measure) -> Measure:
    if member.value is None:
        return member
    interval = member.ci95 and (1 - member.ci95[1], 1 - member.ci95[0])
    return replace(
        member, value=1 - member.value, ci95=interval, per_sample=tuple(1 - value for value in member.per_sample)
    )


def _nearness(area: Measure, retained: Measure) -> Measure:
    for measure in (area, retained):
        if measure.value is None:
            return unavailable(MIA, measure.unavailable or "no value")
    assert area.value is not None
    if not retained.value:
        return unavailable(MIA, "the retain reference's AUC is 0: nothing can be relative to it", "check the model")
    return MIA.measure(nearness(area.value, retained.value))


def _geometric(scores: Sequence[AnswerScore]) -> float:
    """Geometric mean of exp(-average loss)."""
    least = math.log(SMALLEST_PROBABILITY)
    return math.exp(math.fsum(max(-score.average_loss, least) for score in scores) / len(scores))
