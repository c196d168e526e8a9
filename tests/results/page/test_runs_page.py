"""The page of many runs: its picture, tables, filters and curves, over one split or several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from tests.helpers.recorded import given
from tests.helpers.scored_runs import artefact, scored
from unierase_cli.cli.app import app
from unierase_cli.contracts import SilentReporter
from unierase_cli.results.many_runs.comparison import compare_runs
from unierase_cli.results.many_runs.together import together
from unierase_cli.store.artefact import Artefact
from unierase_cli.store.artefacts import Store

LINES = "[...document.querySelectorAll('#table-0 tbody tr:not([hidden])')]"
POINTS = "[...document.querySelectorAll('svg.wide .point')].filter(point => !point.closest('[hidden]'))"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def sequence(store: Store, method: str, worse: float) -> Artefact:
    """A run of three requests, with its trajectory."""
    score = scored(store, method, mode__name="sequential", forget=0.1 + worse, kept=0.9 - worse)
    slug = score.path.parent.name
    made = artefact(store, "trajectory", slug, {"score": score})

    def measures(n: int) -> dict[str, object]:
        values = {"forget_so_far.rouge": 0.1 + worse * n, "retain_unseen.rouge": 1.0 - worse * n}
        return {name: {"value": value, "ci95": [value - 0.05, value], "n": 5} for name, value in values.items()}

    steps = [{"step": n, "facts": 5, "measures": measures(n)} for n in (1, 2, 3)]
    return given(made, ("steps.json", json.dumps({"before": measures(0), "steps": steps})))


def runs(store: Store) -> None:
    for split in ("forget05", "forget10"):
        scored(store, benchmark__split=split, forget=0.1, kept=0.95)
        scored(store, "ga_gd", benchmark__split=split, forget=0.2, kept=0.4)
    sequence(store, "npo_gd", 0.02)
    sequence(store, "ga_gd", 0.1)


def page(store: Store, place: Path) -> Path:
    made = compare_runs(store, ["score/*"], reporter=SilentReporter())
    whole = together(store, made, reporter=SilentReporter(), command=[]) if len(made) > 1 else made[0]
    place.write_text((whole.path / "comparison.html").read_text("utf-8"), "utf-8")
    return place


def test_the_first_sentence_names_the_best_balance_of_every_table(store: Store, tmp_path: Path) -> None:
    runs(store)
    text = page(store, tmp_path / "page.html").read_text("utf-8")
    for place in ("fictional forget05, mini, batch mode", "fictional forget10, mini, batch mode"):
        assert f"Of 2 configurations on {place}, npo_gd has the best balance: it recalls 0.10 of what it should forget" in text


def test_a_method_with_a_hostile_name_stays_text(store: Store, tmp_path: Path) -> None:
    run = scored(store)
    # Fonts of the PNG have no control characters.
    name = HOSTILE.replace("\x1b", "")
    run.manifest["config"]["method"]["name"] = run.manifest["config"]["benchmark"]["split"] = name
    given(run)
    text = page(store, tmp_path / "page.html").read_text("utf-8")
    check_text(text)
    assert "alert(1)" in text


def test_it_looks_as_it_should(tab: Browser, store: Store, tmp_path: Path) -> None:
    runs(store)
    path = page(store, tmp_path / "page.html")
    check_text(path.read_text("utf-8"))
    check_look(tab, path)


def test_filters_choose_lines_points_and_pictures_and_leave_the_unedited_model(
    tab: Browser, store: Store, tmp_path: Path
) -> None:
    runs(store)
    tab.open(page(store, tmp_path / "page.html"))
    assert tab.run(f"{LINES}.length") == 8
    assert tab.run(f"{POINTS}.length") == 8
    choose = "{{const box = document.querySelector('[name={}]'); box.value = '{}'; box.form.dispatchEvent(new Event('input'))}}"
    tab.run(choose.format("f2", "ga_gd"))
    assert set(tab.run(f"{LINES}.map(line => line.cells[3].textContent)")) == {"", "ga_gd"}
    assert tab.run(f"{POINTS}.length") == 5
    tab.run(choose.format("f0", "fictional forget10, mini"))
    assert tab.run(f"{LINES}.map(line => line.cells[0].textContent)") == ["unedited model", "2 ga_gd"]
    assert tab.run(f"{POINTS}.length") == 2


def test_a_line_sorts_by_the_balance(tab: Browser, store: Store, tmp_path: Path) -> None:
    runs(store)
    tab.open(page(store, tmp_path / "page.html"))
    tab.run("[...document.querySelectorAll('#table-0 thead button')].find(b => b.textContent === 'balance').click()")
    found = [value for value in tab.run(f"{LINES}.map(line => line.cells[5].dataset.value ?? null)") if value is not None]
    assert len(found) == 8
    assert found == sorted(found, key=float, reverse=True)


def test_sequences_have_curves_named_at_their_ends(store: Store, tmp_path: Path) -> None:
    runs(store)
    text = page(store, tmp_path / "page.html").read_text("utf-8")
    assert text.count("<polyline") == 2 * 2 * 2
    assert "1 npo_gd, 3: 0.160" in text
    assert "1 npo_gd, 0: 0.100" in text


def test_the_command_makes_one_page_over_several_splits(store: Store) -> None:
    runs(store)
    done = CliRunner().invoke(app, ["report", "score/*", "--outputs", str(store.root)], prog_name="unierase")
    assert done.exit_code == 0, done.stderr
    assert "fictional-forget05_mini-and-1/v001/comparison.html" in done.stderr.replace("\n", "")
    assert [a.path.parent.name for a in store.list("comparison")] == [
        "fictional-forget05_mini", "fictional-forget10_mini", "fictional-forget05_mini-and-1",
    ]  # fmt: skip
