"""The page of a run: what it says first, what it marks and escapes, and how it looks and works in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from tests.helpers.report_rows import REFUSAL, observed
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.contracts import Measure
from unierase_cli.metrics.base import Evidence
from unierase_cli.metrics.compare import compare
from unierase_cli.metrics.scores import AfterStep, Trajectory
from unierase_cli.results.page.answers import STEP
from unierase_cli.results.page.difference import marked
from unierase_cli.results.page.run_answers import answers_of
from unierase_cli.results.page.run_page import run_page

FACTS = 20


def evidence(state: str, text: str = "") -> Evidence:
    seen = {
        (s, "plain"): [observed(state, s, n) for n in range(FACTS)] for s in ("forget", "retain_unseen", "world_facts")
    }
    if state == "edited":
        seen["forget", "unlearn_forbidden"] = [observed(state, "forget", n, "unlearn_forbidden") for n in range(FACTS)]
    if text:
        seen = {
            key: [replace(o, question=text, reference=f"{text} a", text=text, raw_text=text) for o in rows]
            for key, rows in seen.items()
        }
    return Evidence(state, seen, refusals=[REFUSAL], special_ids=[9])


def finding(attack: str, kind: str, share: float | None, **more: Any) -> Finding:
    spread = None if share is None else (share - 0.1, share + 0.1)
    told = {"word": "recovered", "n": 40, "groups": 2, "recovered": 0.4, "plain": 0.03, "control": 0.17, **more}
    return Finding(attack, kind, "default", True, 1, "recall", share=share, share_ci=spread, **told)


AUDIT = Audit(
    "unierase on tofu forget01, tofu_mini, seed 0",
    "suppressed",
    "suppressed: prompts alone bring back 0.97 (prefix); retain recall 0.957 (0.960 before)",
    [
        finding("plain", "prompts", 0.02),
        finding("prefix", "prompts", 0.97),
        finding("paraphrase", "prompts", None, why_no_share="too close"),
    ],
    0.957,
    0.96,
)


def made(text: str = "", **more: Any) -> str:
    base, edited = evidence("base", text), evidence("edited", text)
    scores = compare(base, edited)
    answers = answers_of(scores, base.observations, edited.observations)
    title = text or "unierase on fictional forget05"
    return run_page(
        title,
        scores,
        answers,
        asked=FACTS,
        command="unierase audit run@v001",
        about={"key": "k" * 64},
        settings="a=1",
        **more,
    )


def damage(lost: float) -> dict[str, Any]:
    rows = [
        {"group": f"Author {n}", "split": "retain_unseen", "similarity": 0.1 + n / 50, "nearest": "Ada", "before": 1.0,
         "after": 1.0 + lost * n, "change": lost * n, "ci95": None, "n": 2}
        for n in range(9)
    ]  # fmt: skip
    rows.sort(key=lambda row: row["change"])
    told = {"rho": -0.5, "p": 0.01, "n": 9, "exact": False}
    return {"groups": rows, "correlation": told, "unavailable": None, "unknown": 0, "likeness": "cosine"}


def steps() -> Trajectory:
    def measures(n: int) -> dict[str, Measure]:
        return {
            c: Measure(c, v, 5, (v - 0.05, v + 0.05))
            for c, v in (("forget_so_far.rouge", 0.1 * n), ("retain_unseen.rouge", 1 - 0.05 * n))
        }

    return Trajectory(before=measures(0), steps=[AfterStep(step=n, facts=5, measures=measures(n)) for n in range(1, 4)])


def test_the_first_sentence_tells_what_was_asked_forgotten_and_kept() -> None:
    page = made()
    told = "Asked to forget 20 facts, the model now recalls 0.00 of their answers (1.00 before)"
    assert f"{told} and 1.00 of the answers that it should keep (1.00 before).</p>" in page
    assert "unierase audit run@v001" in page
    assert (
        page.index(told) < page.index("Answers before and after") < page.index("What comes back") < page.index("k" * 64)
    )


def test_an_audits_verdict_is_part_of_it() -> None:
    page = made(audit=AUDIT)
    assert "; <strong>audit: suppressed: prompts alone bring back 0.97 (prefix)</strong>.</p>" in page
    assert "unierase audit run@v001" not in page
    assert "share of the lost facts, by prefix" in page


def test_changed_words_are_marked_and_answers_with_little_in_common_as_a_whole() -> None:
    assert marked("born in Rome in 1990", "born in Bonn in 1990") == (
        "born in <del>Rome</del> in 1990",
        "born in <ins>Bonn</ins> in 1990",
    )
    assert marked("She writes sea ballads", "I have no idea") == (
        "<del>She writes sea ballads</del>",
        "<ins>I have no idea</ins>",
    )
    assert marked("<b>", "<b>") == ("&lt;b&gt;", "&lt;b&gt;")
    assert marked("", "new") == ("", "<ins>new</ins>")
    one, other = marked("林若水是一名造船匠", "林若水是一名木匠")
    assert (one, other) == ("林若水是一名<del>造船</del>匠", "林若水是一名<ins>木</ins>匠")


def test_hostile_text_stays_text() -> None:
    found = {
        **damage(-0.01),
        "groups": [{**row, "group": HOSTILE, "nearest": HOSTILE} for row in damage(-0.01)["groups"]],
    }
    check_text(made(HOSTILE, damage=found, remarks=[HOSTILE], audit=replace(AUDIT, line=HOSTILE, title=HOSTILE)))


def test_where_no_group_lost_anything_a_sentence_says_so() -> None:
    page = made(damage=damage(0.0))
    assert "No group of questions lost anything." in page
    assert "Change of recall of each group" not in page


def test_a_page_of_four_hundred_facts_is_small() -> None:
    long = "A sentence of about a hundred letters, as the answers of a language model to a question often are. " * 2
    from unierase_cli.results.page.answers import Answer, answers_html

    answers = [
        Answer("forget", f"{n} {long}", long, long, f"{n} no {long}", 1.0, 0.0, {"paraphrased": long})
        for n in range(1600)
    ]
    assert len(answers_html(answers)) < 4_000_000
    assert len(answers_html(answers[:400])) < 1_000_000


@pytest.mark.parametrize(
    "more", [{}, {"audit": AUDIT, "damage": damage(-0.02), "trajectory": steps()}], ids=["plain", "all"]
)
def test_it_looks_as_it_should(tab: Browser, tmp_path: Path, more: dict[str, Any]) -> None:
    path = tmp_path / "report.html"
    path.write_text(made(**more), "utf-8")
    check_text(path.read_text("utf-8"))
    check_look(tab, path)


SHOWN = "[...document.querySelectorAll('#answer-list > article:not([hidden])')]"


def test_answers_are_searched_filtered_and_shown_a_few_at_a_time(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(made(), "utf-8")
    tab.open(path)
    assert tab.run(f"{SHOWN}.length") == STEP
    tab.run("document.querySelector('.more').click()")
    assert tab.run(f"{SHOWN}.length") == 2 * STEP
    tab.run("document.querySelector('input[type=checkbox]').click()")
    assert tab.run(f"{SHOWN}.every(item => item.querySelector('ins'))")
    assert tab.run("document.querySelector('output').textContent") == f"{FACTS} of {3 * FACTS}"
    tab.run("document.querySelector('input[type=checkbox]').click()")
    tab.run("document.querySelector('input[type=search]').focus()")
    tab.type("what is 17")
    assert tab.run(f"{SHOWN}.map(item => item.dataset.split)") == ["forget", "retain, never seen", "world facts"]
    assert tab.run("document.querySelector('.more').hidden")


def test_without_a_script_everything_is_there(tmp_path: Path) -> None:
    page = made()
    assert "hidden" not in page.partition("<main>")[2].partition("<script>")[0].replace("aria-hidden", "")
    assert page.count("<article") == 3 * FACTS
