"""The pages of weighted tokens and of an erasure, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from tests.helpers.recorded import scored
from unierase_cli.results.page.attribution_page import attribution_page
from unierase_cli.results.page.erasure_page import erasure_page
from unierase_cli.results.runs import read_scores
from unierase_cli.store.artefacts import Store

ROWS = [
    {"fact": f"f-{n}", "tokens": ["Ada", " was", " born", " in", " Ulm", ""], "weights": [0.2, 0.2, 0.4, 1.2, 3.8, 0.2]}
    for n in range(9)
]


def test_hostile_tokens_stay_text() -> None:
    rows = [{"fact": HOSTILE, "tokens": [HOSTILE, HOSTILE], "weights": [0.5, 1.5]}]
    check_text(attribution_page(HOSTILE, rows, [HOSTILE]))


def test_a_page_without_texts_has_ids_and_weights() -> None:
    page = attribution_page("Weights", ROWS, None)
    assert "f-3" in page
    assert 'title="3.80"' in page
    assert "Ada" not in page
    assert "Ulm" not in page


def test_the_page_of_weights_can_be_read(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(attribution_page("Weights", ROWS, [f"Where was Ada {n} born?" for n in range(9)]), "utf-8")
    check_look(tab, page)
    shades = tab.run("new Set([...document.querySelectorAll('.weight')].map(s => getComputedStyle(s).backgroundColor)).size")
    assert shades == 4, "one for each weight"


def test_the_erasure_report_can_be_read(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    scores = read_scores(scored(Store(tmp_path / "outputs")))
    hashes, verify = {"before": "a" * 64, "after": "b" * 64}, [("a hash", "unierase export RUN " + "x" * 60)]
    given: dict[str, Any] = {"request": {"requests served": "1"}, "not_promised": ["Much."], "hashes": hashes, "verify": verify}
    facts = [f"{n:032x}" for n in range(40)]
    page.write_text(erasure_page("run@v001", facts, scores, None, **given, command="unierase audit run@v001"), "utf-8")
    check_look(tab, page)
