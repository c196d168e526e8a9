"""Parity with the numbers of the reference evaluation code: closer-look and open-unlearning on four tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.golden_metrics import MODELS, SPLITS, STABLE, TOLERANCE, expected, load, near, observations
from unierase_cli.contracts import Observation
from unierase_cli.inference.logprobs import score_answers
from unierase_cli.metrics import forget_quality, model_utility, probability, rouge, token_entropy, truth_ratio
from unierase_cli.metrics.base import Evidence, Reference

pytestmark = pytest.mark.slow


def evidence(found: dict[str, list[Observation]]) -> Evidence:
    return Evidence("edited", {(split, "plain"): rows for split, rows in found.items()})


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "metrics"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", MODELS)
def test_golden_losses_of_every_answer_match_closer_look(folder: Path, model: str, split: str) -> None:
    log = expected(folder, "closer_eval.json")[model]["per_sample"][SPLITS[split][1]]
    for i, o in enumerate(observations(folder, model, True)[split]):
        assert len(o.answers["true"][0].token_ids) == log["num_token_gt"][i]
        assert o.answers["true"][0].average_loss == near(log["avg_gt_loss"][i])
        assert truth_ratio.correct_answer(o).average_loss == near(log["avg_paraphrased_loss"][i])
        assert [s.average_loss for s in o.answers["wrong"]] == near(log["average_perturb_loss"][i])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", STABLE)
def test_golden_answers_rouge_and_token_entropy_match_closer_look(folder: Path, model: str, split: str) -> None:
    log = expected(folder, "closer_eval.json")[model]["per_sample"][SPLITS[split][1]]
    rows = observations(folder, model, True)[split]
    assert [o.text for o in rows] == [text[1] for text in log["generated_text"]]
    assert [rouge.rouge_l_recall(o.text, o.reference) for o in rows] == near(log["rougeL_recall"])
    assert [rouge.rouge_1_recall(o.text, o.reference) for o in rows] == near(log["rouge1_recall"])
    tokenizer = load(folder, model).tokenizer
    tokens = [tokenizer.tokenize(o.text) for o in rows]
    assert [token_entropy.token_entropy(row) for row in tokens] == near(log["token_entropy"])
    assert token_entropy.compute(rows, tokens=tokens).value == near(sum(log["token_entropy"]) / len(rows))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("model", STABLE)
def test_golden_aggregates_match_closer_look(folder: Path, model: str, split: str) -> None:
    aggregate = expected(folder, "closer_eval.json")[model]["aggregate_tofu_4_sets"]
    name = SPLITS[split][2]
    rows = observations(folder, model, True)[split]
    options = split in ("real_authors", "world_facts")
    likely = probability.compute_normalised(rows) if options else probability.compute(rows)
    ratio = truth_ratio.compute(rows)
    assert rouge.compute(rows).value == near(aggregate[f"{name} ROUGE"])
    assert likely.value == near(aggregate[f"{name} Probability"])
    # closer-look reports the forget set's truth ratio upside down.
    assert ratio.value == near(
        1 - aggregate[f"{name} Truth Ratio"] if split == "forget" else aggregate[f"{name} Truth Ratio"]
    )
    tokens = [load(folder, model).tokenizer.tokenize(o.text) for o in rows]
    assert token_entropy.compute(rows, tokens=tokens).value == near(aggregate[f"{name} Token Entropy"])


@pytest.mark.parametrize("model", MODELS)
def test_golden_probabilities_and_truth_ratios_match_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]
    for split, (_, _, _, prefix) in SPLITS.items():
        rows = observations(folder, model, False)[split]
        assert probability.compute(rows).value == near(log[f"{prefix}_Q_A_Prob"]["agg_value"])
        pert = [[s.average_loss for s in o.answers["wrong"]] for o in rows]
        assert pert == [
            near(log[f"{prefix}_Q_A_PERT_Prob"]["value_by_index"][str(i)]["avg_loss"]) for i in range(len(rows))
        ]
        if prefix in ("ra", "wf"):
            assert probability.compute_normalised(rows).value == near(log[f"{prefix}_Q_A_Prob_normalised"]["agg_value"])
        else:
            para = [o.answers["paraphrased"][0].average_loss for o in rows]
            logged = log[f"{prefix}_Q_A_PARA_Prob"]["value_by_index"]
            assert para == near([logged[str(i)]["avg_loss"] for i in range(len(rows))])
        name = "forget_truth_ratio" if prefix == "forget" else f"{prefix}_Truth_Ratio"
        assert truth_ratio.compute(rows).value == near(log[name]["agg_value"])
    knowledge = truth_ratio.compute_knowledge(observations(folder, model, False)["forget"])
    assert knowledge.value == near(log["forget_truth_ratio_prob_mean"]["agg_value"])


@pytest.mark.parametrize("model", STABLE)
def test_golden_rouge_and_model_utility_match_open_unlearning(folder: Path, model: str) -> None:
    log = expected(folder, "ou_eval.json")[model]
    found = observations(folder, model, False)
    for split, (_, _, _, prefix) in SPLITS.items():
        logged = log[f"{prefix}_Q_A_ROUGE"]
        for i, o in enumerate(found[split]):
            row = logged["value_by_index"][str(i)]
            assert o.text.strip() == row["generation"]
            assert rouge.rouge_l_recall(o.text, o.reference) == near(row["rougeL_recall"])
            assert rouge.rouge_1_recall(o.text, o.reference) == near(row["rouge1_recall"])
            assert rouge.rouge_l_f1(o.text, o.reference) == near(row["rougeL_f1"])
        assert rouge.compute(found[split]).value == near(logged["agg_value"])
    assert model_utility.of_evidence(evidence(found)).value == near(log["model_utility"]["agg_value"])


@pytest.mark.parametrize("model", STABLE)
def test_golden_forget_quality_matches_open_unlearning(folder: Path, model: str) -> None:
    rows, reference = (observations(folder, name, False)["forget"] for name in (model, "model_random"))
    value = expected(folder, "ou_eval.json")[model]["forget_quality(reference=model_random)"]["agg_value"]
    assert forget_quality.compute(rows, Reference({("forget", "plain"): reference})).value == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_golden_token_log_probabilities_match_open_unlearning(folder: Path, model: str) -> None:
    rows = expected(folder, "ou_token_logprobs.json")[model]
    items = [(row["input_ids"][: row["n_prompt"]], row["input_ids"][row["n_prompt"] :]) for row in rows]
    for row, score in zip(rows, score_answers(load(folder, model), items, batch_size=3), strict=True):
        assert score.log_probs == pytest.approx(row["answer_logprobs_incl_eos"], rel=TOLERANCE, abs=1e-5)


def test_golden_texts_have_the_rouge_and_entropy_of_closer_look(folder: Path) -> None:
    for pair in expected(folder, "closer_text.json"):
        text, reference = pair["generated"], pair["ground_truth"]
        assert rouge.rouge_l_recall(text, reference) == near(pair["rougeL_recall"])
        assert rouge.rouge_1_recall(text, reference) == near(pair["rouge1_recall"])
        assert token_entropy.token_entropy(pair["tokens"]) == near(pair["token_entropy"])
        assert token_entropy.entropy_bits(pair["tokens"]) == near(pair["token_entropy_bits_unnormalised"])


@pytest.mark.parametrize("model", STABLE)
def test_golden_generated_tokens_are_nearly_those_of_the_text_encoded_anew(folder: Path, model: str) -> None:
    # The default token entropy counts generated tokens; closer-look tokenizes the text again.
    for rows in observations(folder, model, True).values():
        tokenizer = load(folder, model).tokenizer
        again = token_entropy.compute(rows, tokens=[tokenizer.tokenize(o.text) for o in rows]).value
        assert token_entropy.compute(rows, tokenizer.all_special_ids).value == pytest.approx(again, abs=0.05)
