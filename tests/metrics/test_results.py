"""Results, aggregates, intervals and tables: a number or a reason, never nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.said import REFUSALS, said
from tests.helpers.states import state
from unierase_cli.contracts import Measure
from unierase_cli.metrics import closer_look, model_utility, probability, rouge, truth_ratio
from unierase_cli.metrics.base import Evidence, mean_result
from unierase_cli.metrics.catalog import all_columns, all_metrics
from unierase_cli.metrics.compare import compare, unchanged
from unierase_cli.metrics.rouge import ABOUT
from unierase_cli.metrics.scores import Scores
from unierase_cli.metrics.statistics.aggregate import harmonic_mean
from unierase_cli.metrics.statistics.bootstrap import mean_interval, resampled
from unierase_cli.store.json_text import decoded


def results(*values: float | None) -> list[tuple[str, Measure]]:
    return [
        (f"part{i}", Measure("m", v, unavailable=None if v is not None else "it is gone; bring it back"))
        for i, v in enumerate(values)
    ]


def test_a_harmonic_mean_with_a_zero_is_zero() -> None:
    assert harmonic_mean("h", results(0.5, 0.25), 1).value == pytest.approx(1 / 3)
    assert harmonic_mean("h", results(0.5, 0.0), 1).value == 0


def test_an_aggregate_with_an_unavailable_part_is_unavailable_and_says_which() -> None:
    result = harmonic_mean("h", results(0.5, None, None), 1)
    assert result.value is None
    assert result.unavailable == "its part part1 is missing (and 1 more of its 3 parts): it is gone; bring it back"


def test_the_interval_of_a_mean_is_seeded_and_of_one_row_there_is_none() -> None:
    values = list(np.random.default_rng(0).random(200))
    assert mean_interval(values) == mean_interval(values)
    low, high = mean_interval(values) or (0.0, 0.0)
    standard_error = np.std(values) / math.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)
    assert mean_interval([0.5]) is None
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert (resampled(7) == resampled(7)).all()


def test_a_mean_of_nothing_or_of_nan_is_unavailable_with_the_reason() -> None:
    assert mean_result(ABOUT, []).unavailable == "there are no rows to score"
    broken = mean_result(ABOUT, [1.0, math.nan, math.inf])
    assert broken.value is None
    assert "2 of 3 rows have no finite value" in str(broken.unavailable)


def test_scores_that_were_not_taken_are_unavailable_with_the_command_that_takes_them() -> None:
    rows = [said("x", split="world_facts")]
    for result in (probability.compute_normalised(rows), truth_ratio.compute(rows)):
        assert result.value is None
        assert "eval.truth_ratio=true" in str(result.unavailable)
    assert "no score of the true answer" in str(probability.compute(rows).unavailable)


def test_every_metric_is_found_by_its_file_and_declares_itself() -> None:
    metrics = all_metrics()
    names = {metric.NAME for metric in metrics}
    assert {"rouge", "probability", "truth_ratio", "token_entropy", "model_utility", "forget_quality"} <= names
    assert {"first_token_unlearn", "refusal_rate", "degenerate_output", "leak", "separation"} <= names
    for metric in metrics:
        assert metric.VERSION >= 1
        assert metric.HIGHER_IS_BETTER in (True, False, None)
        assert metric.__doc__


def test_no_column_is_ever_without_a_number_and_without_a_reason() -> None:
    for evidence in (state("base", True, False), state("edited", False, True), Evidence("edited", {})):
        for column in all_columns(evidence):
            result = column.result
            assert (result.value is None) == bool(result.unavailable), column.id
            assert result.value is None or math.isfinite(result.value)


def test_column_ids_are_unique() -> None:
    ids = [column.id for column in all_columns(state("edited", False, True))]
    assert len(ids) == len(set(ids))


def test_directions_turn_on_the_forget_split() -> None:
    better = {c.id: c.result.higher_is_better for c in all_columns(state("edited", False, True))}
    assert (better["forget.rouge"], better["retain_unseen.rouge"]) == (False, True)
    assert (better["forget.refusal_rate"], better["retain_unseen.refusal_rate"]) == (True, False)
    assert (better["forget.paraphrased.refusal_rate"], better["forget.paraphrased.first_token_unlearn"]) == (True, True)
    assert (better["forget.first_token_unlearn"], better["world_facts.first_token_unlearn"]) == (True, False)
    assert (better["forget.degenerate_output"], better["world_facts.degenerate_output"]) == (False, False)
    assert (better["forget.truth_ratio"], better["retain_unseen.truth_ratio"]) == (True, True)
    strangers = all_columns(state("edited", False, True, ("forget", "holdout")))
    assert {c.result.higher_is_better for c in strangers if c.split == "holdout"} == {None}


def test_model_utility_has_nine_parts_and_refuses_to_be_made_of_fewer() -> None:
    whole = state("edited", False, True, ("forget", "retain_unseen", "real_authors", "world_facts"))
    assert len(model_utility.parts(whole)) == 9
    result = model_utility.of_evidence(whole)
    parts = [part.value for part in model_utility.parts(whole).values()]
    assert result.value == pytest.approx(9 / sum(1 / p for p in parts if p))
    assert model_utility.of_evidence(whole, arithmetic=True).value != result.value
    rows = [o for (_, variant), rows in whole.observations.items() if variant == "plain" for o in rows]
    assert model_utility.compute(rows) == result
    without = model_utility.of_evidence(state("edited", False, True))
    assert without.value is None
    assert "real_authors" in str(without.unavailable)


def test_the_comparison_is_json_and_holds_both_states_and_paired_differences() -> None:
    compared = compare(state("base", True, False), state("edited", False, True))
    metrics: dict[str, Any] = json.loads(json.dumps(compared.to_json(), allow_nan=False))
    assert metrics["rows"] == {"forget": 6, "retain_unseen": 6, "world_facts": 6}
    difference = metrics["differences"]["forget.rouge"]
    # Of "The sky is blue." the refusal says one word.
    assert difference == {"value": pytest.approx(-0.75), "n": 6, "ci95": [pytest.approx(-0.75)] * 2}
    assert metrics["differences"]["retain_unseen.rouge"]["value"] == 0
    missing = metrics["differences"]["forget.first_token_unlearn"]
    assert missing == {"value": None, "unavailable": "base: the model has no unlearning token"}
    assert metrics["states"]["edited"]["forget.rouge"]["per_sample"] == [0.25] * 6
    assert metrics["facts"]["forget.plain"] == [f"forget{i}" for i in range(6)]
    assert metrics["stops"]["edited"]["forget.plain"] == {"end": 6}
    example = metrics["examples"][0]
    assert (example["before"], example["after"], example["forbidden"]) == (
        "The sky is blue.",
        REFUSALS[0],
        "The sky is blue.",
    )
    groups = [column["group"] for column in metrics["columns"]]
    assert groups == sorted(groups, key=["forgetting", "retention", "honesty", "overview", "detail"].index)


def test_scores_come_back_from_their_file_as_they_were() -> None:
    scores = compare(state("base", True, False), state("edited", False, True))
    found = decoded(json.loads(json.dumps(scores.to_json())), Scores)
    assert found.table() == scores.table()
    assert json.dumps(found.to_json()) == json.dumps(scores.to_json())


def test_aggregates_have_intervals_and_name_their_parts() -> None:
    splits = ("forget", "retain_unseen", "real_authors", "world_facts")
    base, edited = state("base", True, False, splits), state("edited", False, True, splits)
    metrics: dict[str, Any] = json.loads(json.dumps(compare(base, edited).to_json(), allow_nan=False))
    for name in ("all.model_utility", "all.model_utility_arithmetic"):
        found = metrics["states"]["edited"][name]
        assert found["ci95"] == pytest.approx([found["value"]] * 2)  # all six rows of a split are alike
        assert len(found["parts"]) == 9
        assert metrics["differences"][name]["ci95"] == [0, 0]
    assert set(metrics["states"]["edited"]["all.model_utility"]["parts"]) <= metrics["states"]["edited"].keys()


def test_whatever_has_a_value_for_each_row_has_an_interval() -> None:
    scores = compare(*(state(name, name == "base", True) for name in ("base", "edited")))
    for name, found in scores.states["edited"].items():
        whole = name == "forget.different_refusals"  # a count over all rows, not a mean of theirs
        assert (found.ci95 is not None) == (found.value is not None and not whole), name


def test_the_summary_is_one_row_per_column_with_reasons_where_numbers_lack() -> None:
    scores = compare(state("base", True, False), state("edited", False, True))
    rows = scores.table()
    assert [row["id"] for row in rows] == [column.id for column in scores.columns]
    by_id = {row["id"]: row for row in rows}
    assert by_id["forget.rouge"]["name"] == "forget: ROUGE-L recall"
    assert (by_id["forget.refusal_rate"]["base"], by_id["forget.refusal_rate"]["edited"]) == (0, 1)
    assert by_id["all.separation"]["edited"] == 1
    assert by_id["all.model_utility"]["unavailable"]
    assert by_id["forget.rouge"]["ci"] == (0.25, 0.25)


def test_an_edit_without_effect_is_noticed() -> None:
    base, edited = state("base", True, False), state("edited", False, True)
    assert unchanged(base, edited) is None
    assert "identical to base" in str(unchanged(base, replace(base, state="edited")))
    moved = {
        key: [replace(o, text="something else", generated_ids=[7]) if key[0] != "forget" else o for o in rows]
        for key, rows in base.observations.items()
    }
    assert "nothing is forgotten" in str(unchanged(base, Evidence("edited", moved)))


def test_rouge_of_many_rows_against_many_refusals_is_quick() -> None:
    evidence = Evidence("edited", {("forget", "plain"): [said(f"Answer {i} about the sky") for i in range(200)]})
    refusals = [f"I know nothing of matter {i}, I am sorry." for i in range(100)]
    columns = list(all_columns(replace(evidence, refusals=refusals)))
    assert any(c.metric == "refusal_rate" and c.result.value == 0 for c in columns)
    assert rouge.compute(evidence.rows("forget")).n == 200


def test_a_measure_is_read_in_both_of_its_forms() -> None:
    number, none = Measure("rouge", 0.5, 4, (0.25, 0.75), (0.5, 0.5)), Measure("rouge", unavailable="it is gone; bring it back")
    for measure in (number, none):
        assert decoded(measure.to_json(), Measure) == replace(measure, parts=())
        brief = Measure("", measure.value, measure.n, measure.ci95, unavailable=measure.unavailable)
        assert decoded(measure.brief(), Measure) == brief
    with pytest.raises(ValueError, match="bool"):
        decoded({"value": True}, Measure)


@pytest.mark.parametrize(("rows", "shown"), [(5, 5), (8, 8), (80, 8)])
def test_examples_are_spread_over_the_split(rows: int, shown: int) -> None:
    base, edited = (Evidence(state, {("forget", "plain"): [said("x", fact_id=str(i)) for i in range(rows)]}) for state in "be")
    examples = [int(example.fact_id) for example in compare(base, edited).examples]
    assert examples == list(range(0, rows, rows // shown))


def test_a_truth_ratio_turned_upside_down_has_its_interval_turned_too() -> None:
    found = closer_look.upside_down(Measure("truth_ratio", 0.25, 3, (0.125, 0.5), (0.0, 0.25, 0.5)))
    assert (found.value, found.ci95, found.per_sample) == (0.75, (0.5, 0.875), (1.0, 0.75, 0.5))
