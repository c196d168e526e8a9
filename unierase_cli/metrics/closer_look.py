"""Closer-look's aggregates (arXiv 2410.08109; spec: metrics, section 3): model utility and forget efficacy.

A set has six members: ROUGE-L recall, probability (among the options, if the set has options), truth ratio, token entropy, cosine
similarity and the entailment score. Model utility is the harmonic mean of all members of retain, real authors and world facts (18
numbers); its retain part uses retain alone (6). For real people ("real-world") only the neighbours are kept: 6 numbers. Forget
efficacy is 1 - the mean of five members of the forget set, without token entropy.

Closer-look reports the inverted truth ratio of the forget set, so that all five are large while knowledge remains. Here members
are given as everywhere in this project (1: the model cannot tell true from wrong), and inverted where the formula needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import cosine_similarity, entailment, probability, rouge, token_entropy, truth_ratio
from unierase_cli.metrics.base import DETAIL, FORGET, OPTION_SPLITS, OVERALL, RETAIN, About, Column, Compute, Evidence
from unierase_cli.metrics.statistics.aggregate import harmonic_mean, one_minus_mean

NAME = "closer_look"
VERSION = 2
HIGHER_IS_BETTER = True
MODEL_UTILITY = "model_utility_closer_look"
MODEL_UTILITY_RETAIN = "model_utility_closer_look_retain"
MODEL_UTILITY_NEIGHBOUR = "model_utility_closer_look_neighbour"
FORGET_EFFICACY = "forget_efficacy"
BALANCE = "balance_closer_look"
TITLES = {
    MODEL_UTILITY: "model utility, closer-look (18 numbers)",
    MODEL_UTILITY_RETAIN: "model utility, closer-look, retain alone (6 numbers)",
    MODEL_UTILITY_NEIGHBOUR: "model utility, closer-look, neighbours (6 numbers)",
    FORGET_EFFICACY: "forget efficacy (closer-look)",
    BALANCE: "balance of forget efficacy and model utility (harmonic mean)",
}
MEMBERS = ("rouge", "probability", "truth_ratio", "token_entropy", "cosine_similarity", "entailment_score")
# Token entropy says nothing about knowledge: a fluent refusal has a high one, a collapsed model a low one.
KNOWLEDGE = tuple(name for name in MEMBERS if name != "token_entropy")
KEPT = (RETAIN, *OPTION_SPLITS)

Members = Mapping[str, Measure | float]


def compute(observations: Sequence[Observation]) -> Measure:
    """Forget efficacy of the forget split's plain observations; without judges it is unavailable."""
    return forget_efficacy(members_of(Evidence("", {(FORGET, "plain"): observations}), FORGET))


def columns(evidence: Evidence) -> Iterable[Column]:
    """Forget efficacy, and model utility as defined for the benchmark."""
    sets = {split: members_of(evidence, split) for split in (FORGET, *KEPT)}
    found = [forget_efficacy(sets[FORGET])]
    if evidence.benchmark == entailment.REAL_PEOPLE:
        found.append(model_utility_neighbour(sets[RETAIN]))
    else:
        found += [model_utility(sets), model_utility_retain(sets[RETAIN])]
    found.append(balance(found[0], found[1]))
    for result in found:
        split = FORGET if result.name == FORGET_EFFICACY else OVERALL
        yield Column(result.name, TITLES[result.name], split, DETAIL, result)


def members_of(evidence: Evidence, split: str) -> dict[str, Measure]:
    """The six members of a set."""
    said_first = entailment.said_first_everywhere(evidence)
    likely: tuple[About, Compute] = (probability.ABOUT, probability.compute)
    if split in OPTION_SPLITS:
        likely = (probability.NORMALISED, probability.compute_normalised)
    wanted: list[tuple[About, Compute]] = [
        (rouge.ABOUT, rouge.compute),
        likely,
        (truth_ratio.ABOUT, truth_ratio.compute),
        (token_entropy.ABOUT, lambda rows: token_entropy.compute(rows, evidence.special_ids)),
        (cosine_similarity.ABOUT, lambda rows: cosine_similarity.compute(rows, evidence.judges)),
        (entailment.ABOUT, lambda rows: entailment.compute(rows, evidence.judges, said_first=said_first)),
    ]
    return dict(zip(MEMBERS, (evidence.measure(about, how, split) for about, how in wanted), strict=True))


def model_utility(sets: Mapping[str, Members]) -> Measure:
    """Harmonic mean of the 18 members of ``retain_unseen``, ``real_authors`` and ``world_facts``, by split and member."""
    return harmonic_mean(
        MODEL_UTILITY, [pair for split in KEPT for pair in _pairs(sets.get(split, {}), MEMBERS, split)], VERSION
    )


def model_utility_retain(retain: Members) -> Measure:
    """Harmonic mean of the retain set's six members."""
    return harmonic_mean(MODEL_UTILITY_RETAIN, _pairs(retain, MEMBERS, RETAIN), VERSION)


def model_utility_neighbour(neighbour: Members) -> Measure:
    """Harmonic mean of the neighbour set's six members: model utility when real people are forgotten."""
    return harmonic_mean(MODEL_UTILITY_NEIGHBOUR, _pairs(neighbour, MEMBERS, "neighbour"), VERSION)


def forget_efficacy(forget: Members) -> Measure:
    """1 - mean of the forget set's ROUGE, probability, inverted truth ratio, cosine similarity and entailment score.

    A model that answers nothing sensible scores high too, so read it together with the utility.
    """
    pairs = dict(_pairs(forget, KNOWLEDGE, FORGET))
    label = f"{FORGET}.truth_ratio"
    pairs[label] = upside_down(pairs[label])
    return one_minus_mean(FORGET_EFFICACY, list(pairs.items()), VERSION)


def balance(efficacy: Measure, utility: Measure) -> Measure:
    """Harmonic mean of forget efficacy and model utility, by which UniErase is judged.

    Either number alone rewards a broken model or one that forgot nothing.
    """
    return harmonic_mean(BALANCE, [(FORGET_EFFICACY, efficacy), ("model_utility", utility)], VERSION)


def upside_down(truth_ratio: Measure) -> Measure:
    """The forget set's truth ratio as closer-look reports it: 1 - mean of min(R, 1/R), larger if more knowledge remains."""
    if truth_ratio.value is None:
        return truth_ratio
    interval = truth_ratio.ci95
    return replace(
        truth_ratio,
        value=1 - truth_ratio.value,
        ci95=interval and (1 - interval[1], 1 - interval[0]),
        per_sample=tuple(1 - value for value in truth_ratio.per_sample),
        higher_is_better=False,
    )


def _pairs(members: Members, names: Sequence[str], split: str) -> list[tuple[str, Measure]]:
    """(label, result) of each name; unavailable for a missing member."""
    return [(f"{split}.{name}", _result(name, members.get(name))) for name in names]


def _result(name: str, member: Measure | float | None) -> Measure:
    if isinstance(member, Measure):
        return member
    return Measure(name, member, unavailable="it was not measured" if member is None else None)
