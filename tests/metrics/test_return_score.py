"""RETURN's scores: two states, one judge, and no number where a part is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.said import said
from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import return_score
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent


class StubJudges(Judges):
    """Finds a contradiction wherever the hypothesis says "wrong"."""

    def __init__(self, label: str = "contradiction") -> None:
        super().__init__()
        self.label, self.asked = label, list[tuple[str, str]]()

    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        self.asked += pairs
        return [self.label if "wrong" in hypothesis else "neutral" for _, hypothesis in pairs]


class NoJudges(Judges):
    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        raise JudgeAbsent("eval.nli is not set; name one")


def split(name: str, right: int, of: int = 10) -> list[Observation]:
    texts = ["Right."] * right + ["All wrong."] * (of - right)
    return [said(text, split=name, fact_id=str(i), question=f"Q{i}?") for i, text in enumerate(texts)]


def evidence(state: str, judges: Judges | None = None, **right: int) -> Evidence:
    rows = {(name, "plain"): split(name, count) for name, count in right.items()}
    return Evidence(state, rows, judges=judges or StubJudges())


def states(base: Evidence, edited: Evidence) -> dict[str, dict[str, Any]]:
    return compare(base, edited).to_json()["states"]


def test_an_answer_is_right_unless_it_contradicts_the_question_with_the_true_answer() -> None:
    judges = StubJudges()
    observations = [said("Blue.", "The sky is blue.", question="What is the sky?"), said("wrong", question="Who?")]
    result = return_score.compute(observations, judges)
    assert result.value == 0.5
    assert result.per_sample == (1.0, 0.0)
    assert judges.asked[0] == ("What is the sky? The sky is blue.", "What is the sky? Blue.")


def test_scores_compare_with_the_unedited_model_split_by_split() -> None:
    base = evidence("base", forget=9, forget_eval=8, retain_unseen=10)
    edited = evidence("edited", forget=1, forget_eval=2, retain_unseen=9)
    found = {name: result["value"] for name, result in states(base, edited)["edited"].items()}
    assert found["forget_eval.nli_accuracy"] == pytest.approx(0.2)
    assert found["all.return_forget_score"] == pytest.approx(1 - 0.2 / 0.8)
    assert found["all.return_retain_score"] == pytest.approx(0.9)
    assert found["all.return_average"] == pytest.approx((0.75 + 0.9) / 2)
    assert found["all.return_retain_score_published"] == pytest.approx(0.9 / 0.8)
    assert found["all.return_average_published"] == pytest.approx((0.75 + 0.9 / 0.8) / 2)


def test_the_unedited_model_has_forgotten_nothing_and_kept_everything() -> None:
    base = evidence("base", forget_eval=8, retain_unseen=10)
    before = states(base, evidence("edited", forget_eval=2, retain_unseen=9))["base"]
    assert (before["all.return_forget_score"]["value"], before["all.return_retain_score"]["value"]) == (0, 1)


def test_a_negative_forget_score_is_shown_as_zero_and_enters_the_average_as_it_is() -> None:
    after = states(
        evidence("base", forget_eval=5, retain_unseen=10), evidence("edited", forget_eval=6, retain_unseen=10)
    )
    assert after["edited"]["all.return_forget_score"]["value"] == 0
    assert after["edited"]["all.return_average"]["value"] == pytest.approx((-0.2 + 1) / 2)
    # Every resample has lost less than nothing: of the interval, too, only zero is shown.
    assert after["edited"]["all.return_forget_score"]["ci95"] == (0, 0)


def test_the_interval_of_a_forget_score_that_is_shown_as_zero_is_cut_at_zero() -> None:
    # Right on the first five rows, and afterwards on the last six: by resample more or fewer.
    before, after = split("forget_eval", 5), split("forget_eval", 6)
    after = [replace(o, text=other.text) for o, other in zip(after, reversed(after), strict=True)]
    base, edited = (Evidence(s, {("forget_eval", "plain"): rows}, judges=StubJudges()) for s, rows in (("b", before), ("e", after)))
    result = states(base, edited)["edited"]["all.return_forget_score"]
    low, high = result["ci95"]
    assert (result["value"], low) == (0, 0)
    assert 0 < high < 1


def test_less_accuracy_is_better_on_both_forget_splits_alone() -> None:
    base, edited = (evidence(state, forget=9, forget_eval=8, retain_unseen=9) for state in ("base", "edited"))
    columns = {column.id: column for column in compare(base, edited).columns}
    splits = ("forget", "forget_eval", "retain_unseen")
    better = {name: columns[f"{name}.nli_accuracy"].higher_is_better for name in splits}
    assert better == {"forget": False, "forget_eval": False, "retain_unseen": True}
    assert columns["forget_eval.rouge"].group == "forgetting"
    assert columns["forget_eval.rouge"].higher_is_better is False


def test_without_a_judge_every_score_says_so() -> None:
    base, edited = (evidence(s, NoJudges(), forget_eval=8, retain_unseen=9) for s in ("base", "edited"))
    after = states(base, edited)["edited"]
    assert after["forget_eval.nli_accuracy"]["unavailable"] == "eval.nli is not set; name one"
    for name in ("forget_score", "retain_score", "average", "retain_score_published", "average_published"):
        result = after[f"all.return_{name}"]
        assert result["value"] is None
        assert "eval.nli is not set" in result["unavailable"]


def test_a_part_that_was_not_observed_makes_no_average_over_the_rest() -> None:
    after = states(evidence("base", forget_eval=8), evidence("edited", forget_eval=2))["edited"]
    assert after["all.return_forget_score"]["value"] == pytest.approx(0.75)
    assert after["all.return_retain_score"]["value"] is None
    assert "return_retain_score is missing" in after["all.return_average"]["unavailable"]


def test_a_model_that_knew_nothing_has_no_score() -> None:
    after = states(
        evidence("base", forget_eval=0, retain_unseen=9), evidence("edited", forget_eval=0, retain_unseen=9)
    )["edited"]
    assert "answers nothing correctly" in after["all.return_forget_score"]["unavailable"]


def test_labels_that_nobody_knows_are_not_taken_for_right() -> None:
    result = return_score.compute([said("wrong")], StubJudges("LABEL_2"))
    assert result.value is None
    assert "'LABEL_2'" in str(result.unavailable)


def test_other_benchmarks_have_no_such_columns() -> None:
    assert list(return_score.columns(evidence("base", forget=9, retain_unseen=9))) == []


def test_how_often_the_judge_takes_a_refusal_for_wrong_is_said() -> None:
    rows = {("forget_eval", "plain"): split("forget_eval", 4, of=4)}
    names = {o.fact_id: "Ada" for o in rows["forget_eval", "plain"]}
    for refusal, share in (("It is wrong to ask about __NAME__.", 1.0), ("I do not know __NAME__.", 0.0)):
        judges = StubJudges()
        found = Evidence("edited", rows, refusals=[refusal], names=names, judges=judges)
        columns = {column.id: column.result.value for column in return_score.columns(found)}
        assert columns["all.return_refusals_contradict"] == share
        assert judges.asked[-1][1].endswith("Ada.")


def test_two_rows_are_enough_for_an_interval_of_a_share_and_one_is_not() -> None:
    two = Measure("accuracy", 0.5, 2, None, (0.0, 1.0))
    assert return_score._resampled(two, two) is not None
    assert return_score._resampled(Measure("accuracy", 1.0, 1, None, (1.0,)), two) is None
