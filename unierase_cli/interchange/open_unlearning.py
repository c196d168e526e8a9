"""Our observations as open-unlearning's ``TOFU_EVAL.json`` and ``TOFU_SUMMARY.json`` (spec: metrics, sections 4 and 4.1).

The numbers are open-unlearning's own, with its small constants, so that its tools recompute them from the file. A truth ratio's
``score`` is R = p(wrong) / p(correct), geometric. Unavailable metrics are left out with the reason; nothing replaces them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from unierase_cli.contracts import AnswerScore, Observation
from unierase_cli.metrics import forget_quality, rouge
from unierase_cli.metrics.answer_tokens import lacking, true_answer
from unierase_cli.metrics.attacks import min_k
from unierase_cli.metrics.base import FORGET, RETAIN, About, Evidence, Reference
from unierase_cli.metrics.exact_memorization import memorized_share
from unierase_cli.metrics.extraction_strength import extraction_strength_open_unlearning
from unierase_cli.metrics.membership import HOLDOUT
from unierase_cli.metrics.privleak import CHANCE, privacy_leak
from unierase_cli.metrics.separation import area_under_curve
from unierase_cli.metrics.truth_ratio import correct_answer, scorable
from unierase_cli.words import has_words

EVAL, SUMMARY = "TOFU_EVAL.json", "TOFU_SUMMARY.json"
# Our split -> open-unlearning's prefix.
PREFIXES = {FORGET: "forget", RETAIN: "retain", "real_authors": "ra", "world_facts": "wf"}
OPTIONS = ("real_authors", "world_facts")
EPSILON = 1e-10
# The nine parts of model utility.
UTILITY = (
    "retain_Q_A_Prob", "retain_Q_A_ROUGE", "retain_Truth_Ratio",
    "ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE", "ra_Truth_Ratio",
    "wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE", "wf_Truth_Ratio",
)  # fmt: skip
# Metrics of the summary; the others are intermediate results.
TOP_LEVEL = (
    "exact_memorization", "extraction_strength", "forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_quality",
    "forget_truth_ratio", "mia_min_k", "model_utility", "privleak",
)  # fmt: skip

Entry = dict[str, Any]


@dataclass
class Written:
    """Metrics by open-unlearning's names, the reasons why others were left out, and notes for the reader."""

    metrics: dict[str, Entry] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, entries: Sequence[Entry], values: Sequence[float]) -> None:
        """A metric with its rows; left out if a row has no finite value."""
        wrong = sum(not math.isfinite(value) for value in values)
        if wrong:
            self.left_out[name] = f"{wrong} of {len(values)} rows have no finite value"
        else:
            self.metrics[name] = _metric(entries, values)

    def evaluation(self) -> dict[str, Entry]:
        """Content of TOFU_EVAL.json."""
        return dict(sorted(self.metrics.items()))

    def summary(self) -> dict[str, float]:
        """Content of TOFU_SUMMARY.json."""
        return {name: self.metrics[name]["agg_value"] for name in TOP_LEVEL if name in self.metrics}


def written(evidence: Evidence) -> Written:
    """Every metric available from a model state's plain observations and its retain reference."""
    out = Written()
    for split, prefix in PREFIXES.items():
        _set(out, evidence.rows(split), prefix, options=split in OPTIONS)
    forget, holdout = evidence.rows(FORGET), evidence.rows(HOLDOUT)
    _answers(out, "exact_memorization", forget, memorized_share)
    _answers(out, "extraction_strength", forget, extraction_strength_open_unlearning)
    _attack(out, forget, holdout, evidence.reference)
    _model_utility(out)
    _forget_quality(out, forget, evidence.reference)
    return out


def truth_ratio_score(observation: Observation) -> float:
    """R = p(wrong) / p(correct) with open-unlearning's constant, which matters only if p(correct) is tiny."""
    losses = [score.average_loss for score in observation.answers["wrong"]]
    wrong = math.exp(-math.fsum(losses) / len(losses))
    return wrong / (math.exp(-correct_answer(observation).average_loss) + EPSILON)


def _closer(ratio: float, *, forget: bool) -> float:
    """A row's contribution to the mean; NaN if the ratio is NaN."""
    if math.isnan(ratio):
        return math.nan
    return min(ratio, 1 / (ratio + EPSILON)) if forget else max(0.0, 1 - ratio)


def _set(out: Written, rows: Sequence[Observation], prefix: str, *, options: bool) -> None:
    """Add probabilities, ROUGE and truth ratio of one set."""
    kinds = {"": "true", "_PARA": "paraphrased", "_PERT": "wrong"}
    if options:  # their truth ratio uses the answer itself
        del kinds["_PARA"]
    for infix, kind in kinds.items():
        name = f"{prefix}_Q_A{infix}_Prob"
        if _missing(out, name, rows, partial(_scored, kind), f"has no scored {kind} answer"):
            continue
        entries = [_probability(o.answers[kind], several=kind == "wrong") for o in rows]
        out.add(name, entries, [_mean(_listed(entry["prob"])) for entry in entries])
    if not _missing(out, f"{prefix}_Q_A_ROUGE", rows, _has_words, "has a true answer without a word"):
        entries = [_rouge(o) for o in rows]
        out.add(f"{prefix}_Q_A_ROUGE", entries, [entry["rougeL_recall"] for entry in entries])
    name = "forget_truth_ratio" if prefix == "forget" else f"{prefix}_Truth_Ratio"
    lacking = "has no scored wrong answers"
    if not _missing(out, name, rows, scorable, lacking):
        scores = [truth_ratio_score(o) for o in rows]
        out.add(name, [{"score": r} for r in scores], [_closer(r, forget=prefix == "forget") for r in scores])
    if options and not _missing(out, f"{prefix}_Q_A_Prob_normalised", rows, scorable, lacking):
        values = [_among_options(o) for o in rows]
        out.add(f"{prefix}_Q_A_Prob_normalised", [{"prob": value} for value in values], values)


def _has_words(observation: Observation) -> bool:
    """Whether ROUGE can score the row; an empty answer scores 0, as in open-unlearning."""
    return has_words(observation.reference) or not observation.reference.strip()


def _answers(
    out: Written, name: str, rows: Sequence[Observation], measure: Callable[[AnswerScore], float]
) -> None:
    """Add a metric of the true answers' tokens; rows without a token are left out of the mean, as in open-unlearning."""
    if _missing(out, name, rows, partial(_scored, "true"), "has no scored true answer"):
        return
    values = [measure(true_answer(o)) for o in rows if true_answer(o).length]
    if values:
        out.add(name, [{"score": value} for value in values], values)
    else:
        out.left_out[name] = "no answer has a token"


def _attack(
    out: Written, forget: Sequence[Observation], holdout: Sequence[Observation], reference: Reference | None
) -> None:
    """Add membership of the forget rows by min-k, and the privacy leak relative to a model that never saw them."""
    found = _min_k(forget), _min_k(holdout)
    if not all(found):
        told = (
            "no holdout rows were observed"
            if not holdout
            else "not every row has a scored true answer with a finite loss"
        )
        out.left_out |= {"mia_min_k": told, "privleak": told}
        return
    auc = _auc(*found)
    parts = {
        name: _metric([{"score": value} for value in values], values)
        for name, values in zip(("forget", "holdout"), found, strict=True)
    }
    out.metrics["mia_min_k"] = {**parts, "auc": auc, "agg_value": auc}
    against = reference_auc(reference)
    if against is None:
        out.notes.append(
            "privleak is relative to an AUC of 0.5, open-unlearning's default, because the reference has no min-k"
        )
    out.metrics["privleak"] = {"agg_value": privacy_leak(auc, CHANCE if against is None else against)}


def reference_auc(reference: Reference | None) -> float | None:
    """The retain model's AUC of min-k, from its log or its observations."""
    if reference is None:
        return None
    if "min_k" in reference.attacks:
        return reference.attacks["min_k"]
    found = [_min_k(reference.observations.get((split, "plain"), ())) for split in (FORGET, HOLDOUT)]
    return _auc(*found) if all(found) else None


def _auc(forget: Sequence[float], holdout: Sequence[float]) -> float:
    return float(area_under_curve(np.array([holdout]), np.array([forget]))[0])


def _min_k(rows: Sequence[Observation]) -> list[float]:
    """Every row's score; empty if a row has none."""
    if lacking(About("mia_min_k", "min-k", 1, None), rows):
        return []
    values = [min_k(o) for o in rows]
    return values if all(map(math.isfinite, values)) else []


def _model_utility(out: Written) -> None:
    missing = [name for name in UTILITY if name not in out.metrics]
    if missing:
        out.left_out["model_utility"] = f"its part {missing[0]} is missing: {out.left_out[missing[0]]}"
        return
    values = [out.metrics[name]["agg_value"] for name in UTILITY]
    value = len(values) / math.fsum(1 / v for v in values) if min(values) > 0 else 0.0
    out.metrics["model_utility"] = {"agg_value": value}


def _forget_quality(out: Written, rows: Sequence[Observation], reference: Reference | None) -> None:
    """Add the test on this file's truth ratios, so that the p-value can be reproduced from the file."""
    refused = forget_quality.compute(rows, reference).unavailable
    if refused or "forget_truth_ratio" not in out.metrics or reference is None:
        out.left_out["forget_quality"] = refused or out.left_out["forget_truth_ratio"]
        return
    known = reference.observations.get((FORGET, "plain"), ())
    retained = [truth_ratio_score(o) for o in known] or list(reference.truth_ratios)
    scores = [entry["score"] for entry in out.metrics["forget_truth_ratio"]["value_by_index"].values()]
    out.metrics["forget_quality"] = {"agg_value": forget_quality.ks_p_value(scores, retained)}


def _scored(kind: str, observation: Observation) -> bool:
    return bool(observation.answers.get(kind))


def _missing(
    out: Written, name: str, rows: Sequence[Observation], has: Callable[[Observation], bool], lacking: str
) -> bool:
    """Whether a metric must be left out; if so, records the reason."""
    without = sum(not has(o) for o in rows)
    if not rows:
        out.left_out[name] = "its rows were not observed"
    elif without:
        out.left_out[name] = f"{without} of {len(rows)} rows: each {lacking}"
    return name in out.left_out


def _metric(entries: Sequence[Entry], values: Sequence[float]) -> Entry:
    return {"agg_value": _mean(values), "value_by_index": {str(place): entry for place, entry in enumerate(entries)}}


def _probability(scores: Sequence[AnswerScore], *, several: bool) -> Entry:
    losses = [score.average_loss for score in scores]
    found = {"prob": [math.exp(-loss) for loss in losses], "avg_loss": losses}
    return found if several else {name: values[0] for name, values in found.items()}


def _rouge(o: Observation) -> Entry:
    return {
        "rouge1_recall": rouge.rouge_1_recall(o.text, o.reference),
        "rougeL_f1": rouge.rouge_l_f1(o.text, o.reference),
        "rougeL_recall": rouge.rouge_l_recall(o.text, o.reference),
        "input": o.question,
        "ground_truth": o.reference.strip(),
        "generation": o.text.strip(),
    }


def _among_options(o: Observation) -> float:
    true, *wrong = (math.exp(-s.average_loss) for s in (o.answers["true"][0], *o.answers["wrong"]))
    return true / (true + math.fsum(wrong) + EPSILON)


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
