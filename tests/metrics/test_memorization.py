"""How much of an answer is remembered word for word, and whether an attacker notices: on small hand-made observations."""

from __future__ import annotations

import math
import zlib
from typing import Any

import pytest

from tests.helpers.said import said
from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics import (
    attacks,
    exact_memorization,
    extraction_strength,
    membership,
    privleak,
    refusal_rate,
    rouge,
)
from unierase_cli.metrics.base import DETAIL, Column, Evidence, Reference

END = math.log(0.9)


def foreseen(*tokens: bool, ends: bool = True) -> AnswerScore:
    """An answer of which these tokens are the most probable ones; its end token, if it has one, is not."""
    flags = [*tokens, False] if ends else list(tokens)
    n = len(flags)
    return AnswerScore([0] * n, [-1.0] * n, flags, [-1.0] * n, [1.0] * n, ends)


def likely(*log_probs: float, split: str = "forget", fact: str = "f", **more: Any) -> Observation:
    """A row whose true answer has tokens of these log-probabilities, and an end token of 0.9."""
    values = [*log_probs, END]
    n = len(values)
    score = AnswerScore([0] * n, values, [True] * n, [-2.0] * n, [4.0] * n)
    return said(split=split, fact_id=fact, row=f"{split}-{fact}", answers={"true": [score]}, **more)


def rows(split: str, *log_probs: float) -> list[Observation]:
    """A row of one token per log-probability."""
    return [likely(value, split=split, fact=str(i)) for i, value in enumerate(log_probs)]


def columns(metric: Any, evidence: Evidence) -> dict[str, Measure]:
    found: list[Column] = list(metric.columns(evidence))
    assert {column.group for column in found} == {DETAIL}
    return {column.id: column.result for column in found}


def test_rouge_1_counts_words_in_any_order_and_f1_also_what_is_said_too_much() -> None:
    o = said("blue is the the sky", "The sky is blue.")
    assert rouge.ROUGE_1_RECALL.compute([o]).value == 1
    # Longest common subsequence 2 ("the sky"): precision 2/5, recall 2/4.
    assert rouge.ROUGE_L_F1.compute([o]).value == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert rouge.ROUGE_1_RECALL.compute([said("")]).value == rouge.ROUGE_L_F1.compute([said("")]).value == 0


def test_exact_memorisation_is_the_share_of_foreseen_tokens_without_the_end() -> None:
    assert exact_memorization.memorized_share(foreseen(True, False, True, True)) == 3 / 4
    # An answer that was cut to fit has no end token to leave out.
    assert exact_memorization.memorized_share(foreseen(True, False, True, True, ends=False)) == 3 / 4


def test_extraction_strength_is_the_share_that_greedy_decoding_says_by_itself() -> None:
    assert extraction_strength.extraction_strength(foreseen(True, False, True, True)) == 2 / 4
    assert extraction_strength.extraction_strength(foreseen(True, True, True)) == 1
    assert extraction_strength.extraction_strength(foreseen(False, True, ends=False)) == 1 / 2


def test_an_unforeseen_last_token_is_worth_nothing_here_and_one_token_in_open_unlearning() -> None:
    lost = [said(answers={"true": [foreseen(True, True, True, False)]})]
    assert extraction_strength.compute(lost).value == 0
    assert extraction_strength.compute_open_unlearning(lost).value == 1 / 4
    assert extraction_strength.compute_open_unlearning(lost).name != extraction_strength.NAME


@pytest.mark.parametrize("metric", [exact_memorization, extraction_strength])
def test_memorisation_of_one_row_has_no_interval_and_of_unscored_or_empty_answers_no_number(metric: Any) -> None:
    one = metric.compute([said(answers={"true": [foreseen(True, False)]})])
    assert (one.value is not None, one.n, one.ci95) == (True, 1, None)
    assert "no score of the true answer" in str(metric.compute([said()]).unavailable)
    assert "without a token" in str(metric.compute([said(answers={"true": [foreseen()]})]).unavailable)
    assert metric.compute([]).unavailable


def test_memorisation_is_better_low_on_the_forget_split_only() -> None:
    splits = ("forget", "retain_unseen", "holdout")
    remembered = [said(answers={"true": [foreseen(True)]})]
    found = columns(extraction_strength, Evidence("edited", {(split, "plain"): remembered for split in splits}))
    assert [found[f"{s}.extraction_strength"].higher_is_better for s in splits] == [False, True, None]


def test_loss_counts_the_end_token_and_zlib_divides_it_by_the_compressed_answer() -> None:
    o = likely(-1.0, -3.0, reference="Ada Velour writes gardening manuals.")
    assert attacks.loss(o) == pytest.approx((4 - END) / 3)
    length = len(zlib.compress(b"Ada Velour writes gardening manuals."))
    assert attacks.compressed_loss(o) == pytest.approx((4 - END) / 3 / length)


def test_min_k_is_the_mean_of_the_lowest_two_fifths_without_the_end() -> None:
    # int(0.4 * 5) = 2 of the five tokens: -4 and -3.
    assert attacks.min_k(likely(-1.0, -4.0, -2.0, -3.0, -0.5)) == pytest.approx(3.5)
    # At least one token, however short the answer.
    assert attacks.min_k(likely(-1.0, -0.5)) == pytest.approx(1.0)


def test_min_k_plus_plus_standardises_each_token_by_its_vocabulary() -> None:
    # (log p + 2) / 2 of -1, -4, -2, -3, -0.5; the lowest two are -1 and -0.5.
    assert attacks.min_k_plus_plus(likely(-1.0, -4.0, -2.0, -3.0, -0.5)) == pytest.approx(0.75)
    certain = AnswerScore([0], [-1e-5], [True], [-2e-5], [0.0], ends=False)
    assert attacks.min_k_plus_plus(said(answers={"true": [certain]})) == pytest.approx(-1e-5 / math.sqrt(1e-6))


def test_membership_is_the_chance_that_a_stranger_scores_higher_and_ties_count_half() -> None:
    # min-k scores: forget 1, 2; holdout 2, 3. Pairs: 2>1, 2=2, 3>1, 3>2.
    result = membership.compute(rows("forget", -1.0, -2.0), rows("holdout", -2.0, -3.0), "min_k")
    assert result.value == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert (result.name, result.n, result.higher_is_better) == ("mia_min_k", 4, None)
    assert result.ci95 is not None
    same = rows("holdout", -1.0, -1.0)
    assert membership.compute(rows("forget", -1.0, -1.0), same).value == 0.5
    assert membership.compute(rows("forget", -1.0), same).ci95 is None


def test_membership_needs_both_splits_scored_and_finite() -> None:
    forget, holdout = rows("forget", -1.0), rows("holdout", -2.0)
    assert "holdout was not observed" in str(membership.compute(forget).unavailable)
    assert "forget was not observed" in str(membership.compute([], holdout).unavailable)
    assert "no score of the true answer" in str(membership.compute(forget, [said()]).unavailable)
    broken = membership.compute(rows("forget", math.nan), holdout, "loss")
    assert broken.value is None
    assert "1 of 2 rows have no finite value" in str(broken.unavailable)


def test_attacks_that_need_a_further_pass_have_a_column_only_where_it_was_made() -> None:
    observed = {("forget", "plain"): rows("forget", -1.0), ("holdout", "plain"): rows("holdout", -2.0)}
    without = columns(membership, Evidence("edited", observed))
    assert list(without) == [f"forget.mia_{name}" for name in ("loss", "zlib", "min_k", "min_k_plus_plus")]
    made = [{"split": s, "fact_id": "0", "value": v} for s, v in (("forget", 0.5), ("holdout", 0.25))]
    both = columns(membership, Evidence("edited", observed, passes={"gradient_norm": made, "reference_loss": made}))
    assert both["forget.mia_gradient_norm"].value == 0
    # Losses beyond the reference: (1 + e) / 2 - 0.5 and (2 + e) / 2 - 0.25.
    assert both["forget.mia_reference"].value == 1
    half = columns(membership, Evidence("edited", observed, passes={"gradient_norm": made[:1]}))
    assert "1 of 2 rows have no finite score" in str(half["forget.mia_gradient_norm"].unavailable)


def test_privacy_leak_is_relative_to_a_model_that_never_saw_the_forget_set() -> None:
    forget, holdout = rows("forget", -1.0, -2.0), rows("holdout", -2.0, -3.0)
    area = 3.5 / 4
    # The reference cannot tell them apart: AUC 1/2.
    fair = Reference(
        {("forget", "plain"): rows("forget", -1.0, -3.0), ("holdout", "plain"): rows("holdout", -1.0, -3.0)}
    )
    result = privleak.compute(forget, holdout, fair)
    assert result.value == pytest.approx(((1 - area) - 0.5) / 0.5 * 100)
    assert privleak.compute(forget, holdout, Reference(attacks={"min_k": area})).value == pytest.approx(0)
    assert privleak.compute_against_chance(forget, holdout).value == pytest.approx(result.value)
    observed = {("forget", "plain"): forget, ("holdout", "plain"): holdout}
    assert columns(privleak, Evidence("edited", observed, reference=fair))["forget.privleak"] == result


def test_privacy_leak_without_a_fitting_reference_is_no_number() -> None:
    forget, holdout = rows("forget", -1.0), rows("holdout", -2.0)
    assert "eval.retain_reference" in str(privleak.compute(forget, holdout).unavailable)
    bare = privleak.compute(forget, holdout, Reference({("forget", "plain"): forget}))
    assert "eval.splits=[forget,holdout]" in str(bare.unavailable)
    others = Reference({("forget", "plain"): forget, ("holdout", "plain"): rows("holdout", -1.0, -2.0)})
    assert "other holdout questions" in str(privleak.compute(forget, holdout, others).unavailable)
    assert "holdout was not observed" in str(
        privleak.compute(forget, [], Reference(attacks={"min_k": 0.5})).unavailable
    )


def test_refusals_where_nothing_should_be_refused_are_already_among_the_clean_refusals() -> None:
    splits = ("forget", "retain_unseen", "real_authors", "world_facts", "unrelated")
    observed = {(split, "plain"): [said("I do not know.", split=split)] for split in splits}
    known = Evidence("edited", observed, refusals=["I do not know."])
    found = {column.id: column.result for column in refusal_rate.columns(known)}
    assert [found[f"{split}.refusal_rate"].higher_is_better for split in splits] == [True, False, False, False, False]


@pytest.mark.parametrize("metric", [rouge.ROUGE_1_RECALL, rouge.ROUGE_1_F1, rouge.ROUGE_L_F1], ids=lambda metric: metric.NAME)
def test_overlap_with_the_true_answer_is_better_high_but_low_on_the_forget_split(metric: Any) -> None:
    rows = [said("The sky")]
    assert metric.compute(rows).higher_is_better is True
    found = columns(metric, Evidence("edited", {(split, "plain"): rows for split in ("forget", "retain_unseen")}))
    directions = [found[f"{split}.{metric.NAME}"].higher_is_better for split in ("forget", "retain_unseen")]
    assert directions == [False, True]
