"""The page of facts that are forgotten one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from unierase_cli.metrics.scores import OverFacts, Precise
from unierase_cli.results.page.precise_page import precise_page

FOUND = Precise(
    facts=3,
    measures=[
        OverFacts(id="forgotten", title="facts not answered", n=3, before=0.0, after=1.0),
        OverFacts(id="fact_rouge", title="fact: ROUGE-L recall", n=3, before=1.0, after=0.05, change=-0.95, ci95=(-1.0, -0.9)),
        OverFacts(id="near_rouge", title="neighbours: ROUGE-L recall", n=3, before=0.98, after=0.9, change=-0.08, ci95=(-0.2, 0.0)),
        OverFacts(id="paraphrase_rouge", title="in other words", unavailable="no fact has a paraphrased question"),
    ],
)


def fact(number: int, text: str = "") -> dict[str, Any]:
    said = {name: text or f"{name} {number}" for name in ("fact", "question", "true", "answer", "answer_before")}
    pair = {"before": 1.0, "after": 0.1 * number, "n": 1}
    return {**said, "fact_rouge": pair, "near_rouge": pair, "far_rouge": None, "forgotten": {"before": 0.0, "after": 1.0}}


def page(text: str = "") -> str:
    return precise_page(text or "unierase", FOUND, [fact(n, text) for n in range(3)], about={"key": text or "k"}, settings=text)


def test_the_sentence_tells_how_many_are_forgotten_and_what_is_left_of_their_neighbours() -> None:
    told = "3 facts, each forgotten on its own from the original model: 3 are no longer answered, and of their neighbours"
    assert told in page()
    assert "answers 0.90 is recalled (0.98 before)" in page()
    assert "no fact has a paraphrased question" in page()


def test_hostile_text_stays_text() -> None:
    check_text(page(HOSTILE))


def test_it_looks_as_it_should(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(), "utf-8")
    check_look(tab, path)
