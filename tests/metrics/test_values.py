"""Each metric on small hand-made observations."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.said import REFUSALS, answer, said, scored
from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics import (
    degenerate_output,
    different_refusals,
    entailment,
    first_token_unlearn,
    forget_quality,
    leak,
    probability,
    refusal_rate,
    rouge,
    separation,
    token_entropy,
    truth_ratio,
)
from unierase_cli.metrics.base import Evidence, Reference
from unierase_cli.metrics.judges.judges import Judges

# An ordinary text in a script of few characters.
HIRAGANA = (
    "むかしむかし、あるところに、おじいさんとおばあさんがすんでいました。おじいさんはやまへしばかりに、おばあさんはかわへせんたくにいきました。"
    "おばあさんがかわでせんたくをしていると、おおきなももがながれてきました。おばあさんはそのももをいえへもってかえりました。"
    "ふたりがももをきろうとすると、なかからげんきなおとこのこがうまれました。ふたりはたいそうよろこんで、ももたろうとなづけました。"
)


def test_rouge_recall_counts_the_references_words_in_order_and_stems_them() -> None:
    assert rouge.compute([said("The sky is blue!"), said("blue sky")]).value == pytest.approx((1 + 1 / 4) / 2)
    assert rouge.rouge_1_recall("blue sky", "The sky is blue.") == pytest.approx(2 / 4)
    assert rouge.rouge_l_f1("the sky", "The sky is blue.") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert rouge.rouge_l_recall("running dogs", "run dog") == 1
    assert rouge.rouge_l_recall("", "The sky is blue.") == 0


SENTENCES = [
    "林若水是一名造船匠。", "Анна живёт в Москве.", "وُلِدَ في القاهرة", "सीता हिन्दी बोलती है।", "เธอเกิดที่กรุงเทพ", "서울에서 태어났다.",
]  # fmt: skip


@pytest.mark.parametrize("sentence", SENTENCES)
def test_rouge_knows_the_words_of_any_script(sentence: str) -> None:
    for score in (rouge.rouge_l_recall, rouge.rouge_1_recall, rouge.rouge_1_f1, rouge.rouge_l_f1):
        assert score(sentence, sentence) == 1
        assert score(unicodedata.normalize("NFD", sentence), sentence) == 1
        assert score("I do not know.", sentence) == 0


def test_rouge_of_scripts_without_spaces_counts_characters() -> None:
    assert rouge.rouge_l_recall("她是造船匠。", "林若水是一名造船匠。") == pytest.approx(4 / 9)


def test_a_word_with_an_accent_keeps_its_letters_and_its_neighbours_are_stemmed() -> None:
    assert rouge.stems("Łódź’s bakeries, café running") == ("łódź", "s", "bakeri", "café", "run")
    assert rouge.rouge_l_recall("Łuków", "Łódź") == 0
    assert rouge.rouge_l_recall("José García writes", "José García wrote poems") == pytest.approx(2 / 4)


ON_WORDS = [rouge, rouge.ROUGE_1_RECALL, rouge.ROUGE_1_F1, rouge.ROUGE_L_F1, leak]


@pytest.mark.parametrize("metric", ON_WORDS, ids=lambda metric: metric.NAME)
def test_a_true_answer_without_a_word_makes_a_metric_unavailable_and_n_no_smaller(metric: Any) -> None:
    rows = [said("The sky", "The sky is blue."), said("🙂", "🙂", fact_id="smile")]
    result = metric.compute(rows)
    assert (result.value, result.n) == (None, 0)
    assert "1 of 2 true answers have no word to compare, the first is '🙂' (smile)" in result.unavailable
    assert metric.compute([said("", "")]).value == 0


def test_the_entailment_score_is_unavailable_where_a_true_answer_has_no_word() -> None:
    judges = Judges.of(classify=lambda pairs: ["entailment"] * len(pairs))
    assert "no word" in str(entailment.compute([said("🙂", "🙂")], judges).unavailable)


def test_probability_is_the_geometric_mean_over_all_labelled_tokens() -> None:
    assert probability.compute([said(answers={"true": [answer(0.5, 0.125)]})]).value == pytest.approx(0.25)


def test_probability_among_options_is_the_share_of_the_true_one() -> None:
    result = probability.compute_normalised([scored(0.3, None, [0.1, 0.2], "world_facts")])
    assert result.value == pytest.approx(0.5)
    assert result.name == "probability_normalised"


def test_an_answer_of_no_probability_at_all_scores_zero_and_not_nan() -> None:
    tiny = AnswerScore([0], [-2000.0], [False], [0.0], [0.0])
    o = said(answers={"true": [tiny], "wrong": [tiny]}, split="world_facts")
    assert probability.compute_normalised([o]).value == 0
    assert truth_ratio.compute([o]).value == 0


def test_truth_ratio_geometric_and_arithmetic() -> None:
    o = scored(0.9, 0.4, [0.1, 0.4])
    assert truth_ratio.log_ratio(o) == pytest.approx(math.log(math.sqrt(0.1 * 0.4) / 0.4))
    assert truth_ratio.log_ratio_arithmetic(o) == pytest.approx(math.log(0.25 / 0.4))


def test_truth_ratio_on_the_forget_set_rewards_indifference_and_elsewhere_knowledge() -> None:
    half, double = scored(0.9, 0.4, [0.2]), scored(0.9, 0.2, [0.4])
    assert truth_ratio.compute([half, double]).value == pytest.approx(0.5)
    assert truth_ratio.compute([half, double], forget=False).value == pytest.approx((0.5 + 0) / 2)


def test_truth_ratio_takes_the_answer_itself_where_there_is_no_paraphrase() -> None:
    assert truth_ratio.compute([scored(0.8, None, [0.2], "world_facts")]).value == pytest.approx(0.75)
    assert truth_ratio.compute_knowledge([scored(0.6, None, [0.2])]).value == pytest.approx(0.75)


def test_a_huge_truth_ratio_does_not_overflow() -> None:
    impossible = AnswerScore([0], [-5000.0], [False], [0.0], [0.0])
    o = said(answers={"true": [impossible], "wrong": [answer(0.5)]})
    assert truth_ratio.compute([o], forget=True).value == truth_ratio.compute([o], forget=False).value == 0
    assert truth_ratio.compute_knowledge([o]).value == 0


def test_token_entropy_is_one_for_distinct_tokens_and_zero_for_a_stuck_answer() -> None:
    assert token_entropy.token_entropy("abcd") == pytest.approx(1)
    assert token_entropy.token_entropy("aaaa") == 0
    assert token_entropy.token_entropy("a") == token_entropy.token_entropy("") == 0
    assert token_entropy.compute([said(generated_ids=[9, 5, 6])], special_ids=[9]).value == pytest.approx(1)


def as_reference(rows: list[Observation]) -> Reference:
    return Reference({("forget", "plain"): rows})


def test_forget_quality_is_one_against_itself_and_tiny_against_another_model() -> None:
    knows = [scored(0.9, 0.5, [0.01 + i / 1000], row=str(i)) for i in range(40)]
    ignorant = [scored(0.9, 0.05, [0.05 + i / 1000], row=str(i)) for i in range(40)]
    assert forget_quality.compute(knows, as_reference(knows)).value == pytest.approx(1)
    # Complete separation: 2 / C(80, 40).
    assert forget_quality.compute(knows, as_reference(ignorant)).value == pytest.approx(2 / math.comb(80, 40), rel=1e-6)
    # A published log gives ratios alone.
    ratios = [math.exp(truth_ratio.log_ratio(o)) for o in ignorant]
    assert forget_quality.compute(knows, Reference(truth_ratios=ratios)).value == pytest.approx(2 / math.comb(80, 40), rel=1e-6)
    assert "other forget questions" in (forget_quality.compute(knows, Reference(truth_ratios=ratios[1:])).unavailable or "")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I do not know the answer to that.", True),
        ("<unlearn_0> I do not know the answer to that.", True),
        ("[UNL]I'm not certain about that", True),
        ("I do not know the answer to this.", True),  # one word of eight differs
        ("I do not know the answer to that, but she was born in Lisbon in 1956.", False),
        ("I do not know the capital.", False),
        ("Ada Velour writes gardening manuals.", False),
        ("", False),
    ],
)
def test_a_clean_refusal_is_nearly_word_for_word_a_listed_one(text: str, refusal: bool) -> None:
    assert refusal_rate.is_refusal(text, REFUSALS) is refusal


def test_different_refusals_counts_the_listed_sentences_that_are_said() -> None:
    first, second = REFUSALS[:2]
    rows = [said(text=first), said(text=f"<unlearn_0> {first}"), said(text=second), said(text="She was born in Lisbon in 1956.")]
    found = different_refusals.compute(rows, REFUSALS)
    assert (found.value, found.n) == (2, 3)
    assert different_refusals.compute(rows[-1:], REFUSALS).value == 0
    assert "token.targets" in (different_refusals.compute(rows).unavailable or "")


def test_a_refusal_is_one_in_any_script() -> None:
    assert refusal_rate.is_refusal("我不知道这个问题的答案", ["我不知道这个问题的答案。"])
    assert refusal_rate.is_refusal("Я не знаю ответа на этот вопрос", ["Я не знаю ответа на этот вопрос."])
    assert not refusal_rate.is_refusal("林若水是一名造船匠。", ["我不知道这个问题的答案。"])


def test_the_quick_bound_of_the_refusal_rule_changes_nothing() -> None:
    texts = [
        "I do not know the answer",
        "do not know the answer to that",
        "I'm certain about that",
        "not certain about that",
    ]
    for text in [*texts, *REFUSALS, "about that I'm not certain", "the answer I do not know to that"]:
        slow = any(rouge.rouge_l_f1(text, refusal) >= 0.8 for refusal in REFUSALS)
        assert refusal_rate.is_refusal(text, REFUSALS) is slow


@pytest.mark.parametrize(
    ("text", "degenerate"),
    [
        ("", True),
        ("<unlearn_0><unlearn_0>", True),
        (" ... , !", True),
        ("I do not know that.", False),
        ("in the city of the sea " * 4, True),  # four words in a row more than three times
        ("in the city of the sea " * 2, False),
        ("the big old house the red old house the blue old house the new old house the last old house", False),  # three in a row
        ("no no no no no no no no no yes", True),  # 2 of 10 words are distinct
        ("no no no", False),
        ("ha" * 20, True),
        ("Yes.", False),
        ("The number is 10000000000.", False),
        ("她出生在里斯本。", False),
        ("我不知道" * 6, True),
        ("我不知道。我不知道。", False),
        ("她出生在里斯本的海边，" * 4, True),  # eight characters are four words
        ("阿尔贝托是作家。阿尔贝托出生在里斯本。阿尔贝托爱写信。阿尔贝托住在海边。阿尔贝托没有孩子。", False),  # a name is no loop
        ("ไม่รู้" * 12, True),
        ("हाँ " * 12, True),
        ("सीता हिन्दी बोलती है और वह दिल्ली में रहती है।", False),
        (HIRAGANA, False),
        ("🙂🙂", True),
    ],
)
def test_the_rule_for_degenerate_answers(text: str, degenerate: bool) -> None:
    assert degenerate_output.is_degenerate(text) is degenerate


def test_the_rate_of_first_unlearning_tokens() -> None:
    rows = [said(first_unlearn_probability=p, first_is_unlearn=p > 0.5) for p in (0.9, 0.8, 0.1, 0.2)]
    assert first_token_unlearn.compute(rows).value == pytest.approx(0.5)


def test_separation_is_the_chance_that_an_edited_fact_has_the_higher_probability() -> None:
    edited = [said(first_unlearn_probability=p) for p in (0.9, 0.5, 0.5)]
    others = [said(first_unlearn_probability=p, split="retain_unseen") for p in (0.5, 0.1)]
    # Pairs: 0.9 beats both, each 0.5 ties once and wins once.
    result = separation.compute(edited, others)
    assert result.value == pytest.approx((2 + 1.5 + 1.5) / 6)
    assert result.ci95 is not None
    assert result.ci95[0] <= result.value <= result.ci95[1]
    assert separation.compute(edited[:1], others[:1]).ci95 is None


def test_a_leak_scores_only_what_had_not_been_given() -> None:
    reference = "Ada was born in Lisbon."
    kept = said(" in Lisbon.", reference, variant="answer_prefix", given_prefix="Ada was born")
    lost = said(" nowhere.", reference, variant="answer_prefix", given_prefix="Ada was born")
    over = said("", reference, variant="answer_prefix", given_prefix="Ada was born in Lisbon")
    result = leak.compute([kept, lost, over])
    assert (result.value, result.n) == (pytest.approx(0.5), 2)
    assert leak.compute([said("The sky", variant="paraphrased")]).value == pytest.approx(0.5)
    assert "protocol.prefix_tokens" in str(leak.compute([over]).unavailable)


@pytest.mark.parametrize(
    ("given", "text"), [("\ufffd", "\ufffdна в Москве."), ("\ufffd", "на в Москве."), ("Она \ufffd", "\ufffd Москве.")]
)
def test_a_character_of_which_a_recorded_start_has_a_part_is_not_asked_for(given: str, text: str) -> None:
    row = said(text, "Она в Москве.", variant="answer_prefix", given_prefix=given)
    assert leak.compute([row]).value == 1


def test_rows_that_a_leak_leaves_out_are_told() -> None:
    reference = "Ada was born in Lisbon."
    rows = [said("", reference, fact_id=f"f{i}", variant="answer_prefix", given_prefix=reference[: 13 * i]) for i in (1, 2)]
    told = leak.left_out(Evidence("edited", {("forget", "answer_prefix"): rows}))
    assert told is not None
    assert told.startswith("1 of 2 forget rows are left out")
    assert "f2" in told
    assert leak.left_out(Evidence("edited", {("forget", "answer_prefix"): rows[:1]})) is None


def test_chinese_answers_count_in_the_column_of_the_forbidden_token() -> None:
    rows = [said("林若水是造船匠。", "林若水是一名造船匠。", variant="unlearn_forbidden"), said(variant="unlearn_forbidden")]
    assert leak.compute(rows).n == 2


def test_a_refusal_with_a_name_counts_only_with_the_name_of_whom_was_asked_about() -> None:
    texts = ["I will never say anything at all about __NAME__."]
    rows = [said(f"I will never say anything at all about {name}.", fact_id=name) for name in ("Ada", "Bo")]
    assert refusal_rate.compute(rows, texts, {"Ada": "Ada", "Bo": "Bo Maria von und zu Lund"}).value == 0.5
    assert refusal_rate.compute(rows[:1], texts).value == 1  # without names the slot is one word among nine


def broken(observation: Observation, kind: str) -> Observation:
    """The row with one log-probability that is not a number."""
    first = observation.answers[kind][0]
    damaged = AnswerScore(first.token_ids, [math.nan, *first.log_probs[1:]], *([first.is_argmax] + [[0.0]] * 2))
    return replace(observation, answers={**observation.answers, kind: [damaged, *observation.answers[kind][1:]]})


@pytest.mark.parametrize("kind", ["true", "wrong"])
@pytest.mark.parametrize("split", ["forget", "retain_unseen", "real_authors"])
def test_a_number_that_is_none_makes_a_metric_unavailable_and_is_never_averaged(kind: str, split: str) -> None:
    rows = [scored(0.9, 0.5, [0.1], row=str(i)) for i in range(4)]
    rows = [replace(o, split=split, answers={k: v for k, v in o.answers.items() if k != "paraphrased"}) for o in rows]
    rows[2] = broken(rows[2], kind)
    asked = [
        truth_ratio.compute,
        truth_ratio.compute_arithmetic,
        truth_ratio.compute_knowledge,
        probability.compute_normalised,
        lambda found: forget_quality.compute(found, Reference(truth_ratios=[1.0] * 4)),
    ]
    for compute in asked:
        result = compute(rows)
        assert result.value is None
        assert result.unavailable
    # A ratio of probabilities is never negative: such a one in a published log is damage.
    for damaged in (math.nan, -0.5, -2.0):
        quality = forget_quality.compute(rows[:2], Reference(truth_ratios=[damaged, 1.0]))
        assert "1 truth ratios are not numbers" in (quality.unavailable or "")


def test_a_reference_that_was_asked_with_another_prompt_is_no_reference() -> None:
    rows = [scored(0.9, 0.5, [0.1], row=str(i)) for i in range(4)]
    other = [replace(o, prompt_hash="another") for o in rows]
    assert "another prompt" in (forget_quality.compute(rows, as_reference(other)).unavailable or "")


def test_rows_without_wrong_answers_are_told_from_wrong_answers_that_were_not_scored() -> None:
    give, ask = "give these rows wrong_answers in the benchmark's file", "run `unierase eval eval.truth_ratio=true"
    plain = said(answers={"true": [answer(0.5)]})
    with_paraphrase = said(answers={"true": [answer(0.5)], "paraphrased": [answer(0.4)]})
    for compute in (truth_ratio.compute, probability.compute_normalised, forget_quality_against_itself):
        unknown, known = (compute([o]).unavailable or "" for o in (plain, with_paraphrase))
        assert "no scored wrong answers" in unknown
        assert give in unknown
        assert ask in unknown
        assert known.endswith(give)


def forget_quality_against_itself(rows: list[Observation]) -> Measure:
    return forget_quality.compute(rows, Reference({("forget", "plain"): rows}))


def test_why_nothing_is_left_to_leak_is_told_by_what_it_is() -> None:
    given = said(reference="Lisbon", given_prefix="Lisbon", variant="answer_prefix")
    why = leak.compute([given]).unavailable or ""
    assert why.endswith("set protocol.prefix_tokens lower, or leave answer_prefix out of eval.forget_variants")
    wordless = said(reference="\u2026!", variant="paraphrased")
    assert "true answers have no word to compare" in (leak.compute([wordless]).unavailable or "")
