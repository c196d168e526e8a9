"""Parity of memorisation, membership and judged metrics with closer-look and open-unlearning on the tiny golden models.

Judges are the stubs that the golden numbers were made with: they test which texts are compared and how, not the judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.golden_metrics import MODELS, SPLITS, STABLE, expected, near, observations
from tests.helpers.said import said
from unierase_cli.contracts import Observation
from unierase_cli.metrics import (
    attacks,
    closer_look,
    cosine_similarity,
    entailment,
    exact_memorization,
    extraction_strength,
    membership,
    privleak,
    rouge,
)
from unierase_cli.metrics.base import Evidence, Reference
from unierase_cli.metrics.judges.judges import Judges

pytestmark = pytest.mark.slow

# open-unlearning's names of the attacks.
LOGS = {"loss": "mia_loss", "zlib": "mia_zlib", "min_k": "mia_min_k", "min_k_plus_plus": "mia_min_k_plus_plus"}


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "metrics"


def byte_histogram(texts: Sequence[str]) -> NDArray[np.float64]:
    """The stub encoder: how often each byte occurs."""
    return np.array([np.bincount(list(text.encode("utf-8")), minlength=256) for text in texts], dtype=np.float64)


def words_contained(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The stub classifier: entailed is a hypothesis all of whose words are in the premise."""
    found = [(premise.lower().split(), hypothesis.lower().split()) for premise, hypothesis in pairs]
    return ["entailment" if said and set(said) <= set(words) else "neutral" for words, said in found]


def stubs() -> Judges:
    return Judges.of(encode=byte_histogram, classify=words_contained)


def scores(log: dict[str, Any], part: str | None = None) -> list[float]:
    rows = (log[part] if part else log)["value_by_index"]
    return [rows[str(i)]["score"] for i in range(len(rows))]


def forget_and_holdout(folder: Path, model: str) -> tuple[list[Observation], list[Observation]]:
    """The golden holdout rows are the retain rows."""
    found = observations(folder, model, False)
    return found["forget"], [replace(o, split="holdout") for o in found["retain_unseen"]]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", STABLE)
def test_golden_cosine_similarities_match_closer_look(folder: Path, model: str, split: str) -> None:
    log = expected(folder, "closer_eval.json")[model]
    rows = observations(folder, model, True)[split]
    assert cosine_similarity.similarities(rows, stubs()) == near(
        log["per_sample"][SPLITS[split][1]]["cosine_similarity"]
    )
    aggregate = log["aggregate_tofu_4_sets"][f"{SPLITS[split][2]} Cosine Similarity"]
    assert cosine_similarity.compute(rows, stubs()).value == near(aggregate)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", STABLE)
def test_golden_entailment_labels_match_closer_look(folder: Path, model: str, split: str) -> None:
    log = expected(folder, "closer_eval.json")[model]
    rows = observations(folder, model, True)[split]
    assert entailment.labels(rows, stubs()) == log["per_sample"][SPLITS[split][1]]["entailment_labels"]
    aggregate = log["aggregate_tofu_4_sets"][f"{SPLITS[split][2]} Entailment Score"]
    assert entailment.compute(rows, stubs()).value == near(aggregate)
    turned = log["entailment_labels_when_tofu_False"][SPLITS[split][1]]
    assert entailment.labels(rows, stubs(), said_first=True) == turned


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("scenario", ["tofu=True", "tofu=False"])
def test_golden_premise_hypothesis_and_least_recall_match_closer_look(folder: Path, split: str, scenario: str) -> None:
    name = SPLITS[split][1].removesuffix(".json")
    log = expected(folder, "closer_entailment_direction.json")[f"{scenario},{name}"]
    said_first = None if scenario == "tofu=True" else True
    premise, hypothesis = entailment.pair(said("GEN0", "GT0", split), said_first)
    assert (premise, hypothesis) == (log["text(premise)"], log["text_pair(hypothesis)"])
    # One word of eleven is a recall of 0.09, one of ten is 0.1 sharp.
    rows = [said("one", "one " + " ".join("abcdefghijklm"[:more]), split) for more in (10, 9)]
    everything = Judges.of(classify=lambda pairs: ["entailment"] * len(pairs))
    assert entailment.labels(rows, everything, said_first=said_first) == log["labels_for_rouge_[0.0999,0.1]"]


def test_golden_texts_have_closer_looks_rouge_1_recall(folder: Path) -> None:
    pairs = expected(folder, "closer_text.json")
    rows = [said(pair["generated"], pair["ground_truth"]) for pair in pairs]
    assert list(rouge.ROUGE_1_RECALL.compute(rows).per_sample) == near([pair["rouge1_recall"] for pair in pairs])


@pytest.mark.parametrize("model", STABLE)
def test_golden_rouge_variants_match_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]["forget_Q_A_ROUGE"]["value_by_index"]
    rows = observations(folder, model, False)["forget"]
    for metric, key in ((rouge.ROUGE_1_RECALL, "rouge1_recall"), (rouge.ROUGE_L_F1, "rougeL_f1")):
        assert list(metric.compute(rows).per_sample) == near([log[str(i)][key] for i in range(len(rows))])


@pytest.mark.parametrize("model", MODELS)
def test_golden_memorisation_matches_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]
    rows = observations(folder, model, False)["forget"]
    memorised, legacy = exact_memorization.compute(rows), extraction_strength.compute_open_unlearning(rows)
    assert list(memorised.per_sample) == near(scores(log["exact_memorization"]))
    assert memorised.value == near(log["exact_memorization"]["agg_value"])
    assert list(legacy.per_sample) == near(scores(log["extraction_strength"]))
    assert legacy.value == near(log["extraction_strength"]["agg_value"])
    # Ours differs where the last token is not foreseen, by 1 / n.
    for own, theirs, o in zip(extraction_strength.compute(rows).per_sample, legacy.per_sample, rows, strict=True):
        answer = o.answers["true"][0]
        assert theirs - own == pytest.approx(0 if answer.is_argmax[answer.length - 1] else 1 / answer.length)


@pytest.mark.parametrize("attack", LOGS)
@pytest.mark.parametrize("model", MODELS)
def test_golden_membership_attacks_match_open_unlearning(folder: Path, model: str, attack: str) -> None:
    log = expected(folder, "ou_eval.json")[model][LOGS[attack]]
    forget, holdout = forget_and_holdout(folder, model)
    assert [attacks.ATTACKS[attack](o) for o in forget] == near(scores(log, "forget"))
    assert [attacks.ATTACKS[attack](o) for o in holdout] == near(scores(log, "holdout"))
    assert membership.compute(forget, holdout, attack).value == near(log["auc"])


@pytest.mark.parametrize("model", STABLE)
def test_golden_membership_attacks_of_further_passes_match_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]
    forget, holdout = forget_and_holdout(folder, model)
    norms = [
        {"split": split, "fact_id": o.fact_id, "value": value}
        for split, rows in (("forget", forget), ("holdout", holdout))
        for o, value in zip(rows, scores(log["mia_gradnorm"], split), strict=True)
    ]
    references = [
        {"split": o.split, "fact_id": o.fact_id, "value": attacks.loss(o)}
        for rows in forget_and_holdout(folder, "model_ref")
        for o in rows
    ]
    passes = {"gradient_norm": norms, "reference_loss": references}
    known = Evidence("edited", {("forget", "plain"): forget, ("holdout", "plain"): holdout}, passes=passes)
    found = {column.id: column.result.value for column in membership.columns(known)}
    assert found["forget.mia_gradient_norm"] == near(log["mia_gradnorm"]["auc"])
    assert found["forget.mia_reference"] == near(log["mia_reference(ref=model_ref)"]["auc"])


@pytest.mark.parametrize("model", STABLE)
def test_golden_privacy_leak_matches_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]
    forget, holdout = forget_and_holdout(folder, model)
    retain = forget_and_holdout(folder, "model_random")
    reference = Reference({("forget", "plain"): retain[0], ("holdout", "plain"): retain[1]})
    logged = log["privleak(reference=model_random)"]["agg_value"]
    assert privleak.compute(forget, holdout, reference).value == near(logged)
    area = {name: membership.compute(*forget_and_holdout(folder, name)).value or 0 for name in (model, "model_random")}
    published = Reference(attacks={"min_k": area["model_random"]})
    assert privleak.compute(forget, holdout, published).value == near(logged)
    chance = log["privleak(default ref 0.5)"]["agg_value"]
    assert privleak.compute_against_chance(forget, holdout).value == near(chance)
    relative = privleak.relative_difference(area[model], area["model_random"])
    assert relative == near(log["rel_diff(reference=model_random)"]["agg_value"])


@pytest.mark.parametrize("splits", [tuple(SPLITS), ("forget", "retain_unseen")])
@pytest.mark.parametrize("model", STABLE)
def test_golden_aggregates_of_closer_look_come_out_of_the_columns(
    folder: Path, model: str, splits: tuple[str, ...]
) -> None:
    found = observations(folder, model, True)
    rows = {(split, "plain"): found[split] for split in splits}
    evidence = Evidence("edited", rows, judges=stubs(), benchmark="tofu" if len(splits) == 4 else "real_world")
    log = expected(folder, "closer_eval.json")[model]
    wanted = log["aggregate_tofu_4_sets" if len(splits) == 4 else "aggregate_real_world_2_sets"]
    names = {
        "forget.forget_efficacy": "Forget Efficacy",
        "all.model_utility_closer_look": "Model Utility",
        "all.model_utility_closer_look_retain": "Model Utility Retain",
        "all.model_utility_closer_look_neighbour": "Model Utility",
    }
    columns = {column.id: column.result.value for column in closer_look.columns(evidence)}
    assert len(columns) == (4 if len(splits) == 4 else 3)
    efficacy, utility = columns["forget.forget_efficacy"], next(v for c, v in columns.items() if c in names and c[:3] == "all")
    together = columns.pop("all.balance_closer_look")
    assert together == pytest.approx(2 * efficacy * utility / (efficacy + utility) if utility else 0)
    for column, value in columns.items():
        # Token entropy counts the generated tokens, closer-look those of the text tokenized again.
        assert value == pytest.approx(wanted[names[column]], rel=2e-3), column
