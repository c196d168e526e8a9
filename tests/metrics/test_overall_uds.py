"""Memorisation, Privacy, Utility and Overall with UDS: the reference's numbers, and reasons where a part is missing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.said import answer, scored
from unierase_cli.contracts import Measure, Observation
from unierase_cli.metrics import overall_uds
from unierase_cli.metrics.base import Evidence, Reference
from unierase_cli.metrics.statistics.aggregate import difference_interval, harmonic_mean, interval_of

TOLERANCE = 1e-9
ATTACKS = {"loss": "loss", "zlib": "zlib", "min_k": "min_k", "min_k++": "min_k_plus_plus"}


@pytest.fixture
def golden(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "golden" / "depth" / "aggregates" / "uds_aggregates.json").read_text())
    return found


def near(value: float) -> Any:
    return pytest.approx(value, rel=TOLERANCE, abs=1e-15)


def measure(value: float | None, reason: str | None = None) -> Measure:
    return Measure("part", value, unavailable=reason)


def rows(split: str, paraphrased: float = 0.2, count: int = 6) -> list[Observation]:
    made = [scored(0.1 + 0.1 * i, paraphrased, [0.1, 0.4], split, row=f"{split}{i}") for i in range(count)]
    return [_never_certain(o) for o in made]


def _never_certain(observation: Observation) -> Observation:
    """The same with two true tokens, of which one is not the most probable."""
    probability = math.exp(observation.answers["true"][0].log_probs[0])
    true = replace(answer(probability, probability, probability), is_argmax=[False, True, True], ends=True)
    return replace(observation, answers=observation.answers | {"true": [true]})


def test_golden_memorisation_matches_and_a_part_without_anything_left_makes_it_unavailable(
    golden: dict[str, Any],
) -> None:
    for row in golden["memorization"]:
        found = overall_uds.memorisation({label: measure(row[label]) for label in ("es", "em", "para", "tr")})
        if row["expected"] is None:
            assert found.unavailable == "its part es is 1, which leaves nothing to take a mean of"
        else:
            assert found.value == near(row["expected"])


def test_golden_privacy_matches(golden: dict[str, Any]) -> None:
    for row in golden["privacy"]:
        areas, retained = (
            {ours: measure(row[side][theirs]) for theirs, ours in ATTACKS.items()}
            for side in ("auc_model", "auc_retain")
        )
        for theirs, ours in ATTACKS.items():
            score = overall_uds.nearness(areas[ours].value or 0.0, retained[ours].value or 0.0)
            assert score == near(row["s_mia"][theirs])
        mia = overall_uds.mia(areas, retained)
        assert mia.value == near(row["mia"])
        assert overall_uds.privacy(mia, measure(row["uds"])).value == near(row["privacy"])


def test_golden_utility_and_overall_match(golden: dict[str, Any]) -> None:
    for row in golden["utility"]:
        mean = harmonic_mean("model_utility", [(f"{i}", measure(value)) for i, value in enumerate(row["nine"])], 1)
        assert mean.value == near(row["model_utility"])
        own = overall_uds.utility(mean, measure(row["fluency"]))
        assert own.value == near(row["utility"])
        assert overall_uds.relative_utility(own, measure(row["utility_full"])).value == near(row["utility_rel"])
    for row in golden["overall"]:
        found = overall_uds.overall(*(measure(row[part]) for part in ("mem", "privacy", "utility_rel")))
        assert found.value == near(row["expected"])


def test_golden_truth_ratios_match(golden: dict[str, Any]) -> None:
    for row in golden["truth_ratio_rows"]:
        answers = {"paraphrased": [answer(p) for p in row["para"]], "wrong": [answer(p) for p in row["wrong"]]}
        observation = replace(scored(0.5, None, []), answers=answers)
        assert overall_uds.truth_ratio([observation]).value == near(row["knowledge_ratio"])


def test_memorisation_of_observations_has_the_parts_of_the_forget_split_and_an_interval() -> None:
    found = overall_uds.memorisation_of(Evidence("edited", {("forget", "plain"): rows("forget")}))
    parts = {label: member.value for label, member in found.members}
    assert parts == {
        "forget.extraction_strength": 0.5,
        "forget.exact_memorization": 0.5,
        "forget.paraphrase_probability": pytest.approx(0.8),
        "forget.truth_ratio_uds": pytest.approx(0.5, abs=1e-9),
    }, "what is left to compare is 1 - member, as in the mean"
    assert difference_interval(found.members, found.members) == (0.0, 0.0)
    assert interval_of({label: member.per_sample for label, member in found.members}) == found.ci95
    assert found.value == pytest.approx(4 / (2 + 2 + 1 / 0.8 + 2))
    assert found.ci95 is not None
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_several_paraphrases_count_by_their_geometric_mean() -> None:
    observation = replace(scored(0.5, None, [0.1]), answers={"paraphrased": [answer(0.4), answer(0.1)]})
    assert overall_uds.paraphrase_probability([observation]).value == pytest.approx(0.2)


def test_the_retain_model_itself_has_an_mia_of_1() -> None:
    observed = {(split, "plain"): rows(split) for split in ("forget", "holdout")}
    found = overall_uds.mia_of(Evidence("edited", observed, reference=Reference(observed)))
    assert found.value == pytest.approx(1)


def test_an_aggregate_says_which_part_is_missing_and_never_takes_fewer() -> None:
    evidence = Evidence("edited", {("forget", "plain"): rows("forget")})
    found = overall_uds.of_evidence(evidence, measure(None, "there is no retain model"))
    assert found.memorisation.value is not None
    assert str(found.privacy.unavailable).startswith("its part mia is missing (and 1 more of its 2 parts)")
    assert "holdout was not observed" in str(found.privacy.unavailable)
    assert "its part model_utility is missing" in str(found.utility.unavailable)
    assert str(found.relative_utility.unavailable).startswith("its own utility is missing")
    assert str(found.overall.unavailable).startswith("its part privacy is missing (and 1 more of its 3 parts)")
    assert overall_uds.privacy(measure(0.5), measure(None, "no UDS")).unavailable == "its part uds is missing: no UDS"


def test_rows_without_a_scored_paraphrase_or_wrong_answer_make_memorisation_unavailable() -> None:
    plain = [replace(o, answers={"true": o.answers["true"]}) for o in rows("forget")]
    found = overall_uds.memorisation_of(Evidence("edited", {("forget", "plain"): plain}))
    assert "6 of 6 rows have no scored paraphrased answer" in str(found.unavailable)
    assert "was not observed" in str(overall_uds.memorisation_of(Evidence("edited", {})).unavailable)


def test_nothing_is_relative_to_a_reference_of_0() -> None:
    assert "AUC is 0" in str(overall_uds.mia({"loss": measure(0.5)}, {"loss": measure(0.0)}).unavailable)
    assert "utility of 0" in str(overall_uds.relative_utility(measure(0.5), measure(0.0)).unavailable)


def test_the_columns_are_what_observations_give_and_the_edited_model_is_held_against_the_unedited_one() -> None:
    observed = {(split, "plain"): rows(split) for split in ("forget", "holdout")}
    base = Evidence("base", observed)
    edited = Evidence("edited", observed, reference=Reference(observed), unedited=base)
    found = {column.id: column.result for column in overall_uds.columns(edited)}
    assert found["forget.mia_uds"].value == pytest.approx(1)
    assert found["forget.paraphrase_probability"].value == pytest.approx(0.2)
    assert found["forget.memorisation_uds"].to_json()["parts"][0] == "forget.extraction_strength"
    assert "its own utility is missing" in str(found["all.relative_utility_uds"].unavailable)
    assert {*found} == {
        "forget.paraphrase_probability", "forget.truth_ratio_uds", "forget.memorisation_uds", "forget.mia_uds",
        "all.utility_uds", "all.relative_utility_uds",
    }  # fmt: skip


def test_overall_of_observations_needs_an_audit() -> None:
    told = str(overall_uds.compute([*rows("forget"), *rows("holdout")]).unavailable)
    assert told.startswith("its part privacy is missing")
