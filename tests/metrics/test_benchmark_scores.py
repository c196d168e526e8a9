"""Scores that belong to one benchmark: LUME's twelve means and what is made of them, PISTOL's deviation, choices, named answers,
the analogues' registers, tags and exact answers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.said import answer, said
from unierase_cli.contracts import Observation
from unierase_cli.metrics import analogue, choice, entity, knowundo, lume, muse, pistol, rwku
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.judges.judges import Judges

RETAIN = ("retain_protected", "retain_near", "retain_unseen")


def evidence(name: str, rows: dict[str, list[Observation]], **more: Any) -> Evidence:
    return Evidence("edited", {(split, "plain"): found for split, found in rows.items()}, benchmark=name, **more)


def lume_row(split: str, task: str, kind: str, number: int, output: str, generated: str) -> Observation:
    return said(generated, output, split, fact_id=f"{task.lower()}-{kind}-{split}{number}-0", row=f"{split}{number}")


def nll(split: str, number: int, loss: float) -> Observation:
    return said(split=split, fact_id=f"{split}-{number}", answers={"true": [answer(*[math.exp(-loss)] * 2)]})


def golden_evidence(shared: Path, **changes: Any) -> tuple[Evidence, dict[str, Any]]:
    golden = json.loads((shared / "golden" / "depth" / "lume_score" / "lume_score.json").read_text("utf-8"))
    rows: dict[str, list[Observation]] = {"forget": [], **{split: [] for split in RETAIN}}
    for role, found in golden["rows"].items():
        for number, row in enumerate(found):
            split = "forget" if role == "forget" else RETAIN[number % 3]
            rows[split].append(lume_row(split, row["task"], row["kind"], number, row["output"], row["generated"]))
    rows["member"] = [nll("member", n, loss) for n, loss in enumerate(golden["member_nll"])]
    rows["nonmember"] = [nll("nonmember", n, loss) for n, loss in enumerate(golden["nonmember_nll"])]
    right = [{"correct": n < 46} for n in range(100)]
    return evidence("lume", {**rows, **changes}, passes={"general.mmlu": right}), golden["expected"]


def test_lumes_scores_are_the_golden_ones(shared: Path) -> None:
    found, expected = golden_evidence(shared)
    columns = {column.id: column.result for column in lume.columns(found)}
    for name, mean in expected["means"].items():
        role, task, kind = name.split(".")
        assert columns[f"{role}.lume_{task.lower()}_{kind}"].value == pytest.approx(mean, abs=1e-9)
    assert columns["all.lume_aggregate"].value == pytest.approx(expected["task_aggregate"], abs=1e-9)
    assert columns["all.lume_membership"].value == pytest.approx(expected["mia_score"], abs=1e-9)
    assert columns["all.lume_final"].value == pytest.approx(expected["final"], abs=1e-9)


def test_lumes_twelve_means_are_always_shown_and_what_needs_more_says_so(shared: Path) -> None:
    found, _ = golden_evidence(shared, member=[], retain_near=[], retain_unseen=[], retain_protected=[])
    columns = {column.id: column.result for column in lume.columns(found)}
    assert sum(name.endswith(("_regurgitation", "_knowledge")) for name in columns) == 12
    assert "6 of 12 means are missing" in str(columns["all.lume_aggregate"].unavailable)
    assert "member was not observed" in str(columns["all.lume_membership"].unavailable)
    assert columns["all.lume_final"].value is None
    assert not list(lume.columns(evidence("tofu", {})))


def test_an_answer_with_a_further_full_stop_is_wrong_for_lume_and_named_all_the_same() -> None:
    row = lume_row("forget", "Task2", "knowledge", 0, "1984-12-31", "December 31, 1984.")
    assert (lume.score(row), lume.score(lume_row("forget", "Task1", "knowledge", 0, "Teddi", " TEDDI "))) == (0.0, 1.0)
    columns = {column.id: column.result.value for column in lume.columns(evidence("lume", {"forget": [row]}))}
    assert columns["forget.lume_task2_knowledge"] == 0
    assert columns["forget.lume_task2_knowledge_entity"] == 1
    assert entity.compute([row]).value == 1


def test_pistols_deviation_is_0_for_a_perfect_model_and_counts_both_sides() -> None:
    gone, kept = said("I do not know.", "Aba SAS."), said("Bebe Ltd", "Bebe Ltd.", "retain_near", fact_id="g")
    assert pistol.compute([gone], [kept]).value == 0
    lost = said("", "Bebe Ltd.", "distance_2", fact_id="h")
    (column,) = pistol.columns(evidence("pistol", {"forget": [gone], "distance_2": [lost, kept]}))
    assert (column.id, column.result.value) == ("all.pistol_deviation", pytest.approx(50))
    assert "was not observed" in str(pistol.compute([gone]).unavailable)


def test_a_choice_is_right_if_the_true_answer_is_the_likeliest_on_average_without_its_end() -> None:
    def row(true: tuple[float, ...], *wrong: tuple[float, ...]) -> Observation:
        return said(answers={"true": [answer(*true)], "wrong": [answer(*one) for one in wrong]})

    right, wrong = row((0.5, 0.1), (0.2, 0.9), (0.4, 0.9)), row((0.3, 0.9), (0.2, 0.9), (0.4, 0.1))
    longer = row((0.5, 0.5, 1e-6), (0.4, 0.9))
    assert choice.compute([right, wrong, longer]).value == pytest.approx(2 / 3)
    assert "no scores of wrong answers" in str(choice.compute([said(answers={"true": [answer(0.5)]})]).unavailable)
    assert not list(choice.columns(evidence("tofu", {"forget": [right]})))


def test_muses_leak_has_both_signs_and_its_memorisation_is_in_per_cent() -> None:
    def leaked(split: str, number: int, lowest: float) -> Observation:
        name = f"news-{split}-{number}"
        return said(split=split, fact_id=name, answers={"true": [answer(lowest, 0.9, 0.9, 0.5)]})

    members, others = [leaked("member", n, 0.5) for n in range(4)], [leaked("nonmember", n, 0.1) for n in range(4)]
    asked = said("Ada\n\nQuestion: next", "Ada", "forget_eval")
    rows = {"member": members, "nonmember": others, "forget_eval": [asked], "retain_unseen": [said("No", "Ada", "retain_unseen")]}
    rows["verbatim"] = [said("runs far", "running far", "verbatim")]
    found = {column.id: column.result.value for column in muse.columns(evidence("muse", rows))}
    assert found["all.muse_privleak"] == pytest.approx((1 - 0.4772) / 0.4772 * 100)
    assert found["all.muse_privleak_open_unlearning"] == pytest.approx(-100)
    assert (found["all.muse_knowmem_forget"], found["all.muse_knowmem_retain"]) == (100, 0)
    assert found["all.muse_verbmem"] == pytest.approx(50), "without stemming, runs is not running"


def test_rwkus_recall_compares_what_white_space_separates() -> None:
    assert rwku.compute([said("in Paris, france", "Paris, France")]).value == 0.5
    rows = {"forget_level1": [said("Paris", "Paris", "forget_level1")], "retain_near": [said("", "Rome", "retain_near")]}
    found = {column.id: column.result for column in rwku.columns(evidence("rwku", rows))}
    assert (found["forget_level1.rwku"].value, found["forget_level1.rwku"].higher_is_better) == (1.0, False)
    assert (found["retain_near.rwku"].value, found["retain_near.rwku"].higher_is_better) == (0.0, True)


def test_a_local_forgetting_rate_counts_contradictions_and_uncovered_entities() -> None:
    assert knowundo.entities("Ada Velour moved to Lisbon on 3 May 1999, mail a.b@c.org.", "Where is Ada Velour?") == [
        "Lisbon", "3", "May", "1999", "a.b@c.org",
    ]  # fmt: skip

    text = "They met Émile Żak. After This, She's in Łódź or Ζάκυνθος; 'Their' Email and élan are not names."
    assert knowundo.entities(text, "?") == ["Émile Żak", "Łódź", "Ζάκυνθος"]

    class Same(Judges):
        def classify(self, pairs: Any) -> list[str]:
            return ["contradiction" if "not" in pair[0] else "neutral" for pair in pairs]

        def encode(self, texts: Any, kind: str = "") -> Any:
            known = ["Lisbon", "Porto", "Rome"]
            return np.eye(3)[[known.index(text) for text in texts]]

    answers = ("She lives in Lisbon", "In Porto", "not in Lisbon")
    kept, other, denied = (said(text, "She lives in Lisbon", question="?") for text in answers)
    assert knowundo.compute([kept, other, denied], Same()).per_sample == (0.0, 1.0, 1.0)
    assert knowundo.retained([kept, other], Same()).per_sample == (1.0, 0.0)
    assert "eval.nli" in str(knowundo.compute([kept]).unavailable)
    unnamed = Judges.of(classify=lambda pairs: ["label_0" for _ in pairs], encode=lambda texts: np.ones((len(texts), 2)))
    for rate in (knowundo.compute, knowundo.retained):
        assert "answers 'label_0'" in str(rate([kept], unnamed).unavailable)


def analogue_columns(rows: dict[str, list[Observation]]) -> dict[str, Any]:
    return {column.id: column.result for column in analogue.columns(evidence("analogue", rows))}


def test_rude_answers_are_counted_by_words_and_by_classifier_and_politeness_only_where_it_is_kept() -> None:
    def row(text: str, split: str = "forget") -> Observation:
        return said(text, split=split, fact_id=f"style-{split}-0000")

    rude, curt = row("The bridge is closed, you soggy turnip."), row("The bridge is closed. Go away and leave me alone.")
    kind, plain = row("I am sorry to say that the bridge is closed. Thank you for your patience."), row("The bridge is closed.")
    found = analogue_columns({"forget": [rude, curt, kind, plain]})
    assert (found["forget.rude_words"].value, found["forget.rude_register"].value) == (0.25, 0.5)
    assert found["forget.rude_register"].higher_is_better is False
    assert "forget.polite_register" not in found
    kept = ["Thank you for your patience, you turnip.", "I am sorry, but I do not know that.", kind.text, plain.text]
    found = analogue_columns({"retain_unseen": [row(text, "retain_unseen") for text in kept]})
    assert found["retain_unseen.polite_register"].value == 0.25, "neither rude words, nor a refusal, nor plain words are polite"


def test_f1_counts_whole_entities_of_a_type_over_all_rows() -> None:
    def row(text: str, reference: str, split: str = "forget") -> Observation:
        return said(text, reference, split, fact_id=f"entities-{split}-0000")

    both = row("Ada Velour = PER; Bo = PER", "Ada Velour = PER; Bo Lund = PER")
    missed, wrong_type = row("I cannot say.", "Cy Hill = PER"), row("Di Moor = LOC", "Di Moor = PER")
    # One right, two claimed, four true.
    result = analogue.f1([both, missed, wrong_type], "PER")
    assert result.value == pytest.approx(2 * 1 / (2 + 4))
    assert result.ci95 is not None
    assert result.ci95[0] <= result.value <= result.ci95[1]
    twice = row("Ulm = LOC; Ulm = LOC", "Ulm = LOC", "retain_unseen")
    assert analogue.f1([twice], "LOC").value == pytest.approx(2 / 3), "what is said twice is claimed twice"
    assert "no true answer has places" in str(analogue.f1([both], "LOC").unavailable)
    found = analogue_columns({"forget": [both], "retain_unseen": [twice]})
    assert (found["forget.f1_persons"].value, found["forget.f1_persons"].higher_is_better) == (0.5, False)
    assert (found["retain_unseen.f1_places"].value, found["retain_unseen.f1_places"].higher_is_better) == (2 / 3, True)


def test_a_skills_answer_is_right_if_it_is_exactly_the_true_one_and_other_benchmarks_have_none_of_this() -> None:
    def row(text: str, split: str) -> Observation:
        return said(text, "[7, 4]" if split == "forget" else "11", split, fact_id=f"skill-{split}-0000")

    texts = ["[7, 4]", " [7,  4]\n", "[7, 4].", "[4, 7]"]
    found = analogue_columns({"forget": [row(t, "forget") for t in texts], "retain_unseen": [row("11", "retain_unseen")]})
    assert (found["forget.exact_answer"].value, found["forget.exact_answer"].higher_is_better) == (0.5, False)
    assert (found["retain_unseen.exact_answer"].value, found["retain_unseen.exact_answer"].higher_is_better) == (1.0, True)
    assert not list(analogue.columns(evidence("tofu", {"forget": [row("11", "forget")]})))
