"""The pages of one audit and of several: verdict, shares, heat map, curves of relearning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from unierase_cli.audit.findings import Audit, Example, Finding
from unierase_cli.audit.series import Curve, Point
from unierase_cli.results.page.answers import Answer
from unierase_cli.results.page.attacks import relearning_html
from unierase_cli.results.page.audit_page import audit_page, audits_page


def finding(attack: str, kind: str, share: float | None, setting: str = "default", headline: bool = True, **more: Any) -> Finding:
    spread = None if share is None else (share - 0.1, share + 0.1)
    told = {"word": "partly", "n": 40, "groups": 2, "recovered": 0.4, "plain": 0.03, "control": 0.17, "ceiling": 0.99, **more}
    return Finding(attack, kind, setting, headline, 1, "recall", share=share, share_ci=spread, excess_ci=(0.1, 0.3), **told)


def relearned(case: str, steps: int, headline: bool, recovered: float) -> Finding:
    return finding("relearn_part", "relearning", 0.3, f"{case}, {steps} steps", headline, recovered=recovered)


AUDIT = Audit(
    "unierase on tofu forget01, tofu_mini, seed 0",
    "suppressed",
    "suppressed: prompts alone bring back 0.97 (prefix); retain recall 0.957 (0.960 before)",
    [
        finding("plain", "prompts", 0.02, recovered=0.05),
        finding("paraphrase", "prompts", None, why_no_share="too close", word="unavailable"),
        finding("prefix", "prompts", 0.97, "4 given", recovered=0.985, word="recovered",
                examples=[Example("Where?", "In <b>Rome</b> | there", "In Rome", "In Bonn")]),
        finding("int4", "weights", 0.05),
        relearned("10 %, LoRA", 200, True, 0.6), relearned("10 %, LoRA", 10, False, 0.2), relearned("25 %, LoRA", 10, False, 0.2),
    ],
    0.957, 0.96, {"uds": "no unedited model"}, ["the facts are of 2 groups"],
    [
        Curve("relearn_part", "10 %, LoRA", "steps", [Point(0, 0.03), Point(10, 0.2, (0.1, 0.3)), Point(200, 0.6, (0.5, 0.7))],
              [Point(0, 0.01), Point(200, 0.2)], [Point(0, 0.99), Point(200, 1.0)]),
        Curve("relearn_part", "25 %, LoRA", "steps", [Point(0, 0.03), Point(10, 0.2)]),
        Curve("relearn_groups", "other groups", "epochs", [Point(0, 0.03), Point(6, 0.2)]),
    ],
)  # fmt: skip
ANSWERS = [Answer("forget", "Where?", "In Rome", "In Rome", "I do not know", 1.0, 0.0, {"control": "In Bonn"})]


def test_an_audit_begins_with_its_verdict_and_three_numbers() -> None:
    page = audit_page(AUDIT, ANSWERS, asked=40, about={"key": "k"})
    assert "Asked to forget 40 facts, the model now recalls 0.05 of their answers (0.99 before)" in page
    assert "<strong>audit: suppressed: prompts alone bring back 0.97 (prefix)</strong>" in page
    assert "by prefix (4 given): recall 0.98 (a model that never learned them: 0.17)" in page
    check_text(page)


def test_where_nothing_was_erased_it_does_not_say_asked() -> None:
    page = audit_page(AUDIT, [replace(ANSWERS[0], before=None)], asked=0, about={})
    assert "Nothing was erased: the model recalls 0.05 of the answers that are to be forgotten (0.99 before)" in page
    assert ">before</p>" not in page


def test_of_a_model_from_elsewhere_it_does_not_say_that_nothing_was_erased() -> None:
    page = audit_page(AUDIT, ANSWERS, asked=None, about={})
    assert "The model recalls 0.05 of the answers that are to be forgotten (0.99 in the unedited model)" in page
    assert "Nothing was erased" not in page


def test_the_tiles_intervals_resample_groups_and_one_group_has_none() -> None:
    recalls = (("a", 0.0), ("a", 1.0), ("b", 0.0), ("b", 1.0))
    answers = [replace(ANSWERS[0], recall=recall, group=group) for group, recall in recalls]
    two = audit_page(AUDIT, answers, asked=4, about={})
    assert "95 % interval 0.50 to 0.50" in two
    one = audit_page(AUDIT, [replace(answer, group="a") for answer in answers], asked=4, about={})
    assert "95 % interval" not in one.partition("<main>")[0].partition("Recovered under attack")[0]


def test_relearning_is_drawn_for_each_attacks_first_setting_with_all_three_models_from_before_training_on() -> None:
    drawn = relearning_html(AUDIT)
    assert drawn.count("<figure") == 2
    assert "this model, 0: 0.030" in drawn
    assert "this model, 200: 0.600" in drawn
    assert "control, 0: 0.010" in drawn
    assert "unedited, 0: 0.990" in drawn
    assert "epochs of training" in drawn
    assert "25 %" not in drawn
    assert relearning_html(replace(AUDIT, curves=[])) == ""


def test_several_audits_are_a_heat_map_with_numbers_in_its_cells() -> None:
    other = replace(AUDIT, title="npo_gd on tofu forget01", findings=AUDIT.findings[:1], retained=None)
    page = audits_page([AUDIT, other])
    assert '--share:97%" title="0.87 to 1.07">0.97<' in page
    assert ">0.05 ◦<" in page
    assert page.count('class="without"') == 1 + 4
    check_text(page)


def test_hostile_text_stays_text() -> None:
    found = [replace(f, setting=HOSTILE, why_no_share=HOSTILE if f.why_no_share else "") for f in AUDIT.findings]
    found[2] = replace(found[2], examples=[Example(HOSTILE, HOSTILE, HOSTILE, HOSTILE)])
    audit = Audit(HOSTILE, HOSTILE, HOSTILE, found, 0.9, 0.9, {"uds": HOSTILE}, [HOSTILE])
    answers = [Answer(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE + "!", 1.0, 0.0, {HOSTILE: HOSTILE})]
    check_text(audit_page(audit, answers, asked=1, about={HOSTILE: HOSTILE}, settings=HOSTILE))
    check_text(audits_page([audit, audit]))


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_it_looks_as_it_should(tab: Browser, tmp_path: Path, several: bool) -> None:
    path = tmp_path / "page.html"
    one = audit_page(AUDIT, ANSWERS, asked=40, about={"key": "k"}, settings="a=1")
    path.write_text(audits_page([AUDIT] * 6) if several else one, "utf-8")
    check_look(tab, path)
