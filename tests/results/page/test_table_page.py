"""Pages of sortable tables: what they escape, how they sort and search, and how they look in a real browser."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from tests.helpers.browser import Browser
from tests.helpers.pages import HOSTILE, check_look, check_text
from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.table_page import table_page
from unierase_cli.results.page.tables import first_number
from unierase_cli.results.table import Table

METHODS = tuple(
    (f"{n} method {n % 3}", f"forget0{n % 2}", f"m{n % 3}", f"{n / 11:.3f} ± 0.01" if n % 4 else "n/a")
    for n in range(11)
)
TABLE = Table("Methods", ("", "split", "method", "forget"), METHODS, frozenset({"forget"}), "lower is better")
HEADERS, CELLS = (
    "[...document.querySelectorAll('thead th')]",
    "[...document.querySelectorAll('tbody tr:not([hidden])')]",
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(
        table_page("Leaderboard", [TABLE], lead="One sentence.", filters=("split", "method"), about={"key": "k"}),
        "utf-8",
    )
    return path


def test_hostile_text_in_every_place_stays_text() -> None:
    table = Table(HOSTILE, (HOSTILE, "b"), ((HOSTILE, HOSTILE),), frozenset({"b"}), HOSTILE, frozenset({(0, 0)}))
    about, filters = {HOSTILE: HOSTILE}, (HOSTILE,)
    page = table_page(HOSTILE, [table, table], lead=HOSTILE, filters=filters, remarks=(HOSTILE,), about=about)
    check_text(page)
    assert "alert(1)" not in re.sub(re.escape(escaped(HOSTILE)), "", page)


def test_control_characters_are_written_out_and_everything_else_reads_as_it_is() -> None:
    assert escaped("\x1b[1m \u202egnp.exe\x00") == "\\x1b[1m \\u202egnp.exe\\x00"
    for text in ("[UNL]", "<unlearn_0>", "Tom & \"Jerry\" 'x'", "a\nb\tc", "林若水 وُلِدَ 🙂"):
        assert html.unescape(escaped(text)) == text


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("0.074 ± 0.012", 0.074),
        ("-0.250 .. +0.125", -0.25),
        ("0.38 [0.20, 0.50]", 0.38),
        ("1e-04", 1e-4),
        ("n/a", None),
        ("-", None),
    ],
)
def test_a_cell_is_sorted_by_its_first_number(cell: str, number: float | None) -> None:
    assert first_number(cell) == number


def test_there_is_no_search_box_for_a_few_rows_and_no_filter_of_a_single_value() -> None:
    few = Table("T", ("a", "b"), (("1", "x"), ("2", "x")))
    assert "<form" not in table_page("T", [few], filters=("b",))
    assert "<select" not in table_page("T", [Table("T", ("a", "b"), (("1", "x"),) * 9)], filters=("b",))


def test_it_looks_as_it_should(tab: Browser, page: Path) -> None:
    check_text(page.read_text("utf-8"))
    check_look(tab, page)


def test_a_header_sorts_up_and_down_and_cells_without_a_number_come_last(tab: Browser, page: Path) -> None:
    tab.open(page)
    values = f"{CELLS}.map(row => row.cells[3].dataset.value ?? null)"
    numbers = sorted((number for row in METHODS if (number := first_number(row[3])) is not None), reverse=True)
    none = [None] * (len(METHODS) - len(numbers))
    for order, expected in (("descending", numbers), ("ascending", numbers[::-1])):
        tab.run(f"{HEADERS}[3].querySelector('button').click()")
        assert [value if value is None else float(value) for value in tab.run(values)] == [*expected, *none]
        assert tab.run(f"{HEADERS}.map(h => h.getAttribute('aria-sort'))") == [None, None, None, order]


def test_texts_sort_by_their_numbers_too_and_with_the_keyboard_alone(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.run(f"{HEADERS}[0].querySelector('button').focus()")
    for expected in (sorted(range(11)), sorted(range(11), reverse=True)):
        tab.press("Enter", 13, "\r")
        assert tab.run(f"{CELLS}.map(row => parseInt(row.cells[0].textContent))") == expected


def test_filters_and_the_search_box_leave_the_rows_that_fit_all_of_them(tab: Browser, page: Path) -> None:
    tab.open(page)
    change = "{{const box = document.querySelectorAll('select')[{}]; box.value = '{}'; box.form.dispatchEvent(new Event('input'))}}"
    tab.run(change.format(0, "forget01"))
    assert tab.run(f"{CELLS}.map(row => row.cells[1].textContent)") == ["forget01"] * 5
    tab.run(change.format(1, "m1"))
    assert tab.run(f"{CELLS}.length") == sum(row[1:3] == ("forget01", "m1") for row in METHODS)
    tab.run(change.format(0, "") + ";" + change.format(1, "") + ";document.querySelector('input[type=search]').focus()")
    tab.type("METHOD 2")
    # Words in any order and place, in either case.
    assert tab.run(f"{CELLS}.length") == sum("method" in row[0] and "2" in " ".join(row) for row in METHODS)
    assert tab.run("document.querySelector('output').textContent") == f"{tab.run(f'{CELLS}.length')} of {len(METHODS)}"
