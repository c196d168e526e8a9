"""Parity with TOFU's own aggregation of real evaluation logs (Llama-2-7B and Phi-1.5)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from unierase_cli.contracts import AnswerScore, Measure, Observation
from unierase_cli.metrics import forget_quality, model_utility, probability, truth_ratio
from unierase_cli.metrics.base import Evidence, Reference, mean_result
from unierase_cli.metrics.rouge import ABOUT

RUNS = [
    f"{model}_{split}_wd0.01"
    for model in ("llama2-7b", "phi")
    for split in ("full", "retain90", "retain95", "retain99")
]
SPLITS = {
    "retain_unseen": ("eval_log", "Retain"),
    "real_authors": ("eval_real_author_wo_options", "Real Authors"),
    "world_facts": ("eval_real_world_wo_options", "Real World"),
    "forget": ("eval_log_forget", "Forget"),
}
TOLERANCE = 1e-9


@cache
def log(folder: Path, run: str) -> dict[str, Any]:
    return json.loads((folder / f"{run}.json").read_text("utf-8"))


def score(loss: float) -> AnswerScore:
    return AnswerScore([0], [-loss], [False], [0.0], [0.0])


def rows(folder: Path, run: str, split: str) -> list[Observation]:
    """Observations whose answers have the logged average losses."""
    entries = next(v for k, v in log(folder, run).items() if k.removesuffix(".json") == SPLITS[split][0])
    found = []
    for i, index in enumerate(entries["index"]):
        answers = {
            "true": [score(entries["avg_gt_loss"][i])],
            "paraphrased": [score(entries["avg_paraphrased_loss"][i])],
            "wrong": [score(loss) for loss in entries["average_perturb_loss"][i]],
        }
        text = f"{split}-{index}"
        found.append(Observation(text, text, "", split, "plain", text, text, [], text, text, "end", answers=answers))
    return found


def rouge(folder: Path, run: str, split: str) -> Measure:
    entries = next(v for k, v in log(folder, run).items() if k.removesuffix(".json") == SPLITS[split][0])
    return mean_result(ABOUT, entries["rougeL_recall"])


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "golden" / "tofu-logs"


@pytest.fixture
def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("arithmetic", [False, True], ids=["leaderboard", "run-time"])
def test_golden_model_utility_and_its_parts(folder: Path, expected: Any, run: str, arithmetic: bool) -> None:
    wanted = expected["utils.get_model_utility" if arithmetic else "aggregate_eval_stat.get_model_utility"][run]
    evidence = Evidence("edited", {(split, "plain"): rows(folder, run, split) for split in SPLITS})
    parts = model_utility.parts(evidence, arithmetic=arithmetic)
    parts |= {f"{split}.rouge": rouge(folder, run, split) for split in SPLITS if split != "forget"}
    assert len(parts) == 9
    names = {"rouge": "ROUGE", "truth_ratio": "Truth Ratio", "truth_ratio_arithmetic": "Truth Ratio"}
    for label, part in parts.items():
        split, metric = label.split(".")
        name = names.get(metric, "Probability" if arithmetic else "Prob.")
        place = SPLITS[split][1]
        key = f"{place} {name}" if arithmetic else f"{name} {place}"
        assert part.value == pytest.approx(wanted[key], rel=TOLERANCE), label
    assert model_utility.of_parts(parts, arithmetic=arithmetic).value == pytest.approx(
        wanted["Model Utility"], rel=TOLERANCE
    )


@pytest.mark.parametrize("run", RUNS)
def test_golden_forget_set(folder: Path, expected: Any, run: str) -> None:
    observations = rows(folder, run, "forget")
    geometric = expected["aggregate_eval_stat.get_model_utility"][run]
    assert probability.compute(observations).value == pytest.approx(geometric["Prob. Forget"], rel=TOLERANCE)
    assert truth_ratio.compute(observations).value == pytest.approx(geometric["Truth Ratio Forget"], rel=TOLERANCE)
    arithmetic = expected["utils.get_model_utility"][run]["Forget Truth Ratio"]
    assert truth_ratio.compute_arithmetic(observations).value == pytest.approx(arithmetic, rel=TOLERANCE)
    assert rouge(folder, run, "forget").value == pytest.approx(geometric["ROUGE Forget"], rel=TOLERANCE)


def test_golden_forget_quality(folder: Path, expected: Any) -> None:
    pairs = expected["aggregate_eval_stat.get_forget_quality"]
    assert len(pairs) == 10
    for pair, wanted in pairs.items():
        unlearned, retained = (
            [truth_ratio.log_ratio(o) for o in rows(folder, run, "forget")] for run in pair.split(" vs ")
        )
        assert forget_quality.ks_p_value(unlearned, retained) == pytest.approx(wanted["Forget Quality"], rel=1e-6), pair


def test_golden_forget_quality_from_observations_asks_for_the_same_questions(folder: Path, expected: Any) -> None:
    pairs = expected["aggregate_eval_stat.get_forget_quality"]
    full, same, other = (
        rows(folder, f"llama2-7b_{split}_wd0.01", "forget") for split in ("full", "retain90", "retain99")
    )
    wanted = pairs["llama2-7b_full_wd0.01 vs llama2-7b_retain90_wd0.01"]["Forget Quality"]
    assert forget_quality.compute(full, Reference({("forget", "plain"): same})).value == pytest.approx(wanted, rel=1e-6)
    refused = forget_quality.compute(full, Reference({("forget", "plain"): other}))
    assert refused.value is None
    assert "other forget questions" in str(refused.unavailable)
