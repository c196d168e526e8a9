"""The page of a leaderboard in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.answered_runs import SKY, finished
from tests.helpers.browser import Browser
from tests.helpers.pages import check_look, check_text
from unierase_cli.contracts import SilentReporter
from unierase_cli.results.leaderboard.leaderboard import PAGE, make_leaderboard
from unierase_cli.store.artefacts import Store

RIGHT = {f"f{number}": SKY for number in range(12)}


def test_it_is_sorted_by_rank_filtered_by_split_and_looks_as_it_should(tab: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for split in ("forget05", "forget10"):
        for method, known in (("npo_gd", 1), ("ga_gd", 9)):
            forget = {fact: SKY if number < known else "No." for number, fact in enumerate(RIGHT)}
            finished(store, method, forget=forget, kept=RIGHT, knowing=True, benchmark__split=split)
    page = make_leaderboard(store, ["score/*"], reporter=SilentReporter()).file(PAGE)
    check_text(page.read_text("utf-8"))
    check_look(tab, page)
    tab.open(page)
    rows = "[...document.querySelectorAll('tbody tr')].filter(row => row.checkVisibility())"
    assert tab.run(f"{rows}.map(row => row.cells[0].textContent).slice(0, 3).join()") == ",1,2"
    tab.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
