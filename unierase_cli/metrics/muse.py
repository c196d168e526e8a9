"""MUSE's scores (arXiv 2407.06460), in per cent: VerbMem and KnowMem (ROUGE-L F1 without stemming) and PrivLeak.

VerbMem compares with the first 128 tokens of the true continuation (cut by its share of tokens), KnowMem cuts an answer at the next
question. PrivLeak is the AUC of -min-40 % of texts to forget against others, relative to that of a retrained model (published
constants): negative means under-forgotten. Open-unlearning's ``privleak`` is relative to 1 - AUC and so has the opposite sign; both
are reported. The first words of a text are its prompt and do not count (see ``benchmarks.parts.texts``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import membership
from unierase_cli.metrics.attacks import ATTACKS
from unierase_cli.metrics.base import (
    FORGET_UNSEEN,
    OVERALL,
    OVERVIEW,
    RETAIN,
    About,
    Column,
    Evidence,
    mean_result,
    not_observed,
    unavailable,
)
from unierase_cli.metrics.privleak import privacy_leak, relative_difference
from unierase_cli.metrics.rouge import plain_rouge_l

NAME = "muse"
VERSION = 2
HIGHER_IS_BETTER = False
BENCHMARK = "muse"
VERBMEM = About("muse_verbmem", "MUSE VerbMem", VERSION, False)
KNOWMEM = About("muse_knowmem_forget", "MUSE KnowMem, forget", VERSION, False)
UTILITY = About("muse_knowmem_retain", "MUSE KnowMem, retain", VERSION, True)
PRIVLEAK = About("muse_privleak", "MUSE PrivLeak (negative: under-forgotten)", VERSION, None)
OPPOSITE = About("muse_privleak_open_unlearning", "PrivLeak, open-unlearning's sign", VERSION, None)
# AUC of the retrained models, from MUSE's code.
RETRAINED = {"news": 0.4772, "books": 0.5393}
MOST = 127
NEXT = re.compile(r"\n\n|\nQuestion|Question:")


def compute(observations: Sequence[Observation]) -> Measure:
    """VerbMem of continued texts."""
    return _mean(VERBMEM, observations, lambda o: plain_rouge_l(o.text, _beginning(o)).fmeasure)


def knowledge(about: About, observations: Sequence[Observation]) -> Measure:
    """KnowMem of answers."""
    return _mean(about, observations, lambda o: plain_rouge_l(NEXT.split(o.text)[0], o.reference).fmeasure)


def columns(evidence: Evidence) -> Iterable[Column]:
    """No columns for other benchmarks."""
    if evidence.benchmark != BENCHMARK:
        return
    results = {
        VERBMEM: compute(evidence.rows("verbatim")),
        KNOWMEM: knowledge(KNOWMEM, evidence.rows(FORGET_UNSEEN)),
        UTILITY: knowledge(UTILITY, evidence.rows(RETAIN)),
    }
    members, others = evidence.rows("member"), evidence.rows("nonmember")
    results |= {about: leak(about, members, others) for about in (PRIVLEAK, OPPOSITE)}
    for about, result in results.items():
        yield Column(about.name, about.title, OVERALL, OVERVIEW, result)


def leak(about: About, members: Sequence[Observation], others: Sequence[Observation]) -> Measure:
    """PrivLeak with MUSE's or open-unlearning's sign."""
    if not members or not others:
        return not_observed(about, "nonmember" if members else "member")
    found = membership.area(about, members, others, ATTACKS["min_k"])
    if found.value is None:
        return found
    retrained = RETRAINED.get(members[0].fact_id.partition("-")[0])
    if retrained is None:
        return unavailable(about, "the retrained model's AUC is known for news and books only")
    relative = relative_difference if about is PRIVLEAK else privacy_leak
    return about.measure(relative(found.value, retrained), found.n)


def _mean(about: About, observations: Sequence[Observation], score: Callable[[Observation], float]) -> Measure:
    return mean_result(about, [100 * score(o) for o in observations])


def _beginning(o: Observation) -> str:
    """About the first MOST tokens of the true continuation."""
    tokens = o.answers["true"][0].length if o.answers.get("true") else 0
    return o.reference if tokens <= MOST else o.reference[: round(len(o.reference) * MOST / tokens)]
