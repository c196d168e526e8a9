"""The recorded list of slow tests is about the tests that there are."""

from __future__ import annotations

from tests.helpers.times import LIMIT, exists, slow_tests


def test_every_line_names_a_test_and_why_it_is_slow() -> None:
    gone = [test for test in slow_tests() if not exists(test)]
    assert gone == [], "renamed or removed: run `python -m tests.helpers.times FILE` for their files"
    assert min(slow_tests().values()) >= LIMIT


def test_a_test_that_is_gone_is_seen() -> None:
    assert exists(f"{__name__.replace('.', '/')}.py::test_a_test_that_is_gone_is_seen[one]")
    assert not exists("tests/house/test_slow_list.py::test_of_yesterday")
    assert not exists("tests/house/test_of_yesterday.py::test_anything")
