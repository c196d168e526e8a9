"""open-unlearning's files: what is written has its numbers, and what it writes serves as our retain reference."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.golden_metrics import STABLE, observations
from tests.helpers.recorded import answer, scored, state
from unierase_cli.contracts import Observation, SilentReporter, UserError
from unierase_cli.interchange.open_unlearning import TOP_LEVEL, UTILITY, written
from unierase_cli.interchange.open_unlearning_log import read_retain_log
from unierase_cli.metrics import forget_quality, model_utility, truth_ratio
from unierase_cli.metrics.base import Evidence, Reference
from unierase_cli.pipeline.study import study_of
from unierase_cli.plugins import CODE
from unierase_cli.results.log_tables import score_logs, summary_of, summary_table
from unierase_cli.stages import score
from unierase_cli.stages.shared.rescore import recorded, rescore, write_open_unlearning
from unierase_cli.stages.shared.retain_reference import check_reference, load_reference
from unierase_cli.store.artefacts import Store

TOLERANCE = 1e-4  # the reference computed in float32
RETAIN = "(reference=model_random)"


def plain(rows: dict[str, list[Observation]]) -> dict[tuple[str, str], list[Observation]]:
    return {(split, "plain"): found for split, found in rows.items()}


def evidence(rows: dict[str, list[Observation]], reference: Reference | None = None) -> Evidence:
    return Evidence("edited", plain(rows), reference=reference)


def golden_rows(folder: Path, model: str) -> dict[str, list[Observation]]:
    """As the golden run had it: the retain rows stand in for the holdout."""
    found = observations(folder, model, False)
    return {**found, "holdout": found["retain_unseen"]}


def expected(folder: Path, model: str) -> dict[str, Any]:
    return json.loads((folder / "ou_eval.json").read_text("utf-8"))[model]


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "metrics"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


@pytest.mark.slow
@pytest.mark.parametrize("model", STABLE)
def test_golden_every_number_of_every_row_is_open_unlearnings(folder: Path, model: str) -> None:
    reference = Reference(plain(golden_rows(folder, "model_random")))
    made, log = written(evidence(golden_rows(folder, model), reference)), expected(folder, model)
    assert made.left_out == {}
    assert set(TOP_LEVEL) | set(UTILITY) <= set(made.metrics)
    for name, entry in made.metrics.items():
        wanted = log[name] if name in log else log[name + RETAIN]
        assert entry["agg_value"] == pytest.approx(wanted["agg_value"], rel=TOLERANCE, abs=1e-7), name
        for part, logged in ((entry, wanted), *((entry[p], wanted[p]) for p in ("forget", "holdout") if p in entry)):
            rows = part.get("value_by_index", {})
            assert rows.keys() == logged.get("value_by_index", {}).keys()
            for index, row in rows.items():
                of_row = logged["value_by_index"][index]
                assert row.keys() == of_row.keys()
                for field, value in row.items():
                    if field == "input":  # theirs has the prompt's tags around the question
                        assert value in of_row[field]
                    elif isinstance(value, str):
                        assert value == of_row[field]
                    else:
                        assert value == pytest.approx(of_row[field], rel=TOLERANCE, abs=1e-7), (name, index, field)


@pytest.mark.slow
@pytest.mark.parametrize("model", STABLE)
def test_golden_privacy_leakage_without_a_retain_model_is_against_a_guess(folder: Path, model: str) -> None:
    made = written(evidence(golden_rows(folder, model)))
    wanted = expected(folder, model)["privleak(default ref 0.5)"]["agg_value"]
    assert made.metrics["privleak"]["agg_value"] == pytest.approx(wanted, rel=1e-6)
    assert any("0.5" in note for note in made.notes)
    assert "no retain reference" in made.left_out["forget_quality"]


@pytest.mark.slow
@pytest.mark.parametrize("model", STABLE)
def test_golden_retain_logs_serve_as_the_reference(folder: Path, tmp_path: Path, model: str) -> None:
    log = expected(folder, "model_random")
    path = tmp_path / "TOFU_EVAL.json"
    path.write_text(json.dumps(log))
    found = read_retain_log(path)
    rows = golden_rows(folder, "model_random")["forget"]
    # The score is R = p(wrong) / p(correct), not 1/R.
    assert found.reference.truth_ratios == pytest.approx(
        [math.exp(truth_ratio.log_ratio(o)) for o in rows], rel=TOLERANCE
    )
    assert found.reference.attacks["min_k"] == log["mia_min_k"]["auc"]
    forget = golden_rows(folder, model)["forget"]
    assert found.unknown([o.question for o in forget]) == []
    assert found.unknown([o.question.replace("?", "？") for o in forget]) == []
    wanted = expected(folder, model)
    value = forget_quality.compute(forget, found.reference).value
    assert value == pytest.approx(wanted[f"forget_quality{RETAIN}"]["agg_value"], rel=1e-6)
    made = written(evidence(golden_rows(folder, model), found.reference))
    assert made.metrics["privleak"]["agg_value"] == pytest.approx(wanted[f"privleak{RETAIN}"]["agg_value"], rel=1e-6)


def test_what_is_written_can_be_read_and_gives_the_same_forget_quality(store: Store, tmp_path: Path) -> None:
    scored(store, "retain", edited=state(0.35))
    scored(store, "run", edited=state(0.2))
    made = write_open_unlearning(store, "retain", tmp_path / "ou", state="edited", reporter=SilentReporter())
    assert made["left_out"].keys() == {"forget_quality"}
    from_file = load_reference(str(tmp_path / "ou"), state(0.2)["forget"])
    from_rows = Reference(plain(state(0.35)))
    assert from_file is not None
    values = [forget_quality.compute(state(0.2)["forget"], r).value for r in (from_file, from_rows)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert 0 < (values[0] or 0) < 1
    again = [written(evidence(state(0.2), r)).metrics for r in (from_file, from_rows)]
    for name in ("forget_quality", "privleak"):
        assert again[0][name]["agg_value"] == pytest.approx(again[1][name]["agg_value"], rel=1e-9)
    summary = json.loads((tmp_path / "ou" / "TOFU_SUMMARY.json").read_text())
    data = json.loads((tmp_path / "ou" / "TOFU_EVAL.json").read_text())
    assert summary == {name: data[name]["agg_value"] for name in TOP_LEVEL if name in data}
    assert list(data) == sorted(data)


def test_the_file_or_its_folder_is_a_retain_reference_of_a_run(store: Store, tmp_path: Path) -> None:
    run = scored(store, "run")
    write_open_unlearning(store, "run", tmp_path / "ou", state="base", reporter=SilentReporter())
    for named in (tmp_path / "ou", tmp_path / "ou" / "TOFU_EVAL.json"):
        changes = {"eval.retain_reference": str(named)}
        (made,) = rescore(store, ["run"], reporter=SilentReporter(), changes=changes, names=["forget_quality"])
        (row,) = made.scores.table()
        assert row["base"] == pytest.approx(1.0)
        assert row["edited"] < 0.05
        experiment = recorded(store, run, SilentReporter(), changes).experiment
        outside = {name for name in score.fingerprints(study_of(experiment), {}) if not name.startswith(CODE)}
        assert outside == {"refusals", "retain_reference"}


def test_the_edited_and_the_unedited_model_can_be_written(store: Store, tmp_path: Path) -> None:
    scored(store)
    found = {}
    for name in ("edited", "base"):
        write_open_unlearning(store, "latest", tmp_path / name, state=name, reporter=SilentReporter())
        found[name] = json.loads((tmp_path / name / "TOFU_SUMMARY.json").read_text())["forget_Q_A_Prob"]
    assert found["base"] > 2 * found["edited"]


def test_files_that_exist_are_kept_unless_forced(store: Store, tmp_path: Path) -> None:
    scored(store)
    write_open_unlearning(store, "latest", tmp_path, state="edited", reporter=SilentReporter())
    before = (tmp_path / "TOFU_EVAL.json").read_bytes()
    with pytest.raises(UserError, match="already has TOFU_EVAL.json"):
        write_open_unlearning(store, "latest", tmp_path, state="base", reporter=SilentReporter())
    assert (tmp_path / "TOFU_EVAL.json").read_bytes() == before
    write_open_unlearning(store, "latest", tmp_path, state="base", reporter=SilentReporter(), overwrite=True)
    assert (tmp_path / "TOFU_EVAL.json").read_bytes() != before


def test_what_was_not_observed_is_left_out_with_the_reason() -> None:
    rows = state(0.2, splits=("forget", "retain_unseen", "real_authors"))
    rows["retain_unseen"] = [replace(o, answers={"true": o.answers["true"]}) for o in rows["retain_unseen"]]
    made = written(evidence(rows))
    assert made.left_out["wf_Q_A_ROUGE"] == "its rows were not observed"
    assert made.left_out["mia_min_k"] == made.left_out["privleak"] == "no holdout rows were observed"
    assert "no scored wrong answers" in made.left_out["retain_Truth_Ratio"]
    assert "retain_Truth_Ratio" in made.left_out["model_utility"]
    assert "retain_Q_A_Prob" in made.metrics
    assert not made.metrics.keys() & made.left_out.keys()


def test_empty_answers_and_sets_of_one_row_have_numbers() -> None:
    made = written(evidence(state(0.2, rows=1, text="")))
    assert made.metrics["forget_Q_A_ROUGE"]["agg_value"] == 0
    assert made.metrics["model_utility"]["agg_value"] == 0
    assert made.metrics["mia_min_k"]["auc"] in (0, 0.5, 1)


def test_values_that_are_no_numbers_are_left_out_not_written() -> None:
    rows = state(0.2)
    broken = {**rows["forget"][0].answers, "true": [answer(math.nan)]}
    rows["forget"][0] = replace(rows["forget"][0], answers=broken)
    made = written(evidence(rows))
    assert made.left_out["forget_Q_A_Prob"] == "1 of 8 rows have no finite value"
    assert "mia_min_k" in made.left_out
    json.dumps(made.evaluation(), allow_nan=False)


def entry(*scores: Any, **texts: Any) -> dict[str, Any]:
    return {"agg_value": 0.5, "value_by_index": {str(n): {"score": s, **texts} for n, s in enumerate(scores)}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no forget_truth_ratio"),
        ({"forget_truth_ratio": 3}, "is 3, not an object"),
        ({"forget_truth_ratio": {"agg_value": 0.5}}, "value_by_index is null, not an object"),
        ({"forget_truth_ratio": entry()}, "has no rows"),
        ({"forget_truth_ratio": entry(0.5, math.nan)}, "row 1 score is NaN"),
        ({"forget_truth_ratio": entry(0.5, None)}, "row 1 score is null"),
        ({"forget_truth_ratio": entry(0.5, -1.0)}, "row 1 score is negative"),
        ({"forget_truth_ratio": entry(0.5), "mia_min_k": {"auc": 7}}, "mia_min_k auc is 7"),
    ],
)
def test_a_damaged_retain_log_is_told_before_anything_runs(tmp_path: Path, data: Any, message: str) -> None:
    path = tmp_path / "TOFU_EVAL.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        check_reference(str(tmp_path))


def test_a_retain_log_that_is_cut_off_or_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has neither forget.plain.jsonl nor TOFU_EVAL.json"):
        check_reference(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        check_reference(str(tmp_path / "none"))
    (tmp_path / "TOFU_EVAL.json").write_text(json.dumps({"forget_truth_ratio": entry(0.5, 0.6)})[:60])
    with pytest.raises(UserError, match="ends too early"):
        check_reference(str(tmp_path))


def test_rows_of_a_retain_log_may_be_in_any_order(tmp_path: Path) -> None:
    data = {"forget_truth_ratio": {"value_by_index": {str(n): {"score": 0.1 * n} for n in (10, 2, 0, 1)}}}
    (tmp_path / "TOFU_EVAL.json").write_text(json.dumps(data))
    found = read_retain_log(tmp_path / "TOFU_EVAL.json").reference
    assert found.truth_ratios == pytest.approx([0.0, 0.1, 0.2, 1.0])
    assert found.attacks == {}


def test_a_retain_log_of_another_split_is_refused_with_how_many_questions_differ(store: Store, tmp_path: Path) -> None:
    other = state(0.3)
    other["forget"] = [replace(o, question=f"Otherwise {o.question}?!") for o in other["forget"][:2]] + other["forget"][
        2:
    ]
    scored(store, "other", edited=other)
    write_open_unlearning(store, "other", tmp_path / "ou", state="edited", reporter=SilentReporter())
    scored(store, "run")
    changed = [replace(o, question=f"New {o.question}") for o in state(0.2)["forget"][:3]] + state(0.2)["forget"][3:]
    with pytest.raises(UserError, match="other forget questions: 3 of 8 differ"):
        load_reference(str(tmp_path / "ou"), changed)
    # A prompt has more around the question than the question.
    assert load_reference(str(tmp_path / "ou"), state(0.2)["forget"]) is not None


def test_observed_references_of_another_split_or_model_are_not_compared_in_silence(store: Store) -> None:
    scored(store, "run")
    other_rows = state(0.3)
    other_rows["forget"] = [replace(o, row_hash=f"other-{o.row_hash}") for o in other_rows["forget"]]
    scored(store, "other", base=other_rows)
    family = state(0.3)
    tokens = [replace(o.answers["true"][0], token_ids=[1] * 6) for o in family["forget"]]
    family["forget"] = [
        replace(o, answers={**o.answers, "true": [t]}) for o, t in zip(family["forget"], tokens, strict=True)
    ]
    scored(store, "family", base=family)
    found = {}
    for slug in ("other", "family"):
        changes = {"eval.retain_reference": str(store.resolve(f"{slug}_base@v001").path)}
        (found[slug],) = rescore(store, ["run"], reporter=SilentReporter(), changes=changes, names=["forget_quality"])
    assert "other forget questions" in str(found["other"].scores.changes()[0].unavailable)
    assert found["family"].scores.changes()[0].after.value is not None
    assert any("8 of 8 answers into other tokens" in warning for warning in found["family"].scores.warnings)


def test_what_we_write_is_read_as_a_log_with_the_same_numbers(tmp_path: Path) -> None:
    rows, twin = state(0.2), state(0.9)
    for name, found in (("edited", rows), ("retain", twin)):
        made = written(evidence(found))
        (tmp_path / f"{name}.json").write_text(json.dumps(made.evaluation()))
    scores = score_logs(tmp_path / "edited.json", tmp_path / "retain.json")
    assert scores.log.wrote == "open-unlearning"
    utility = scores.aggregates["model_utility"].value
    assert utility == pytest.approx(model_utility.of_evidence(evidence(rows)).value, rel=1e-6)
    wanted = forget_quality.compute(rows["forget"], Reference(plain(twin))).value
    assert scores.forget_quality.p == pytest.approx(wanted, rel=1e-6)


def test_a_summary_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "TOFU_SUMMARY.json"
    path.write_text(json.dumps(written(evidence(state(0.2))).summary()))
    known = summary_of(path)
    assert known is not None
    assert known["model_utility"] == pytest.approx(model_utility.of_evidence(evidence(state(0.2))).value, rel=1e-6)
    assert "model_utility" in summary_table(path, known).markdown()
    damaged = written(evidence(state(0.2))).evaluation()
    del damaged["forget_Q_A_Prob"]["value_by_index"]["0"]["avg_loss"]
    path.write_text(json.dumps(damaged))
    with pytest.raises(UserError, match="forget_Q_A_Prob row 0 has no avg_loss"):
        score_logs(path, None)
