"""The recorded list of slow tests is about the tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import times
from tests.helpers.times import LIMIT, exists, slow_tests


def test_every_line_names_a_test_and_why_it_is_slow() -> None:
    gone = [test for test in slow_tests() if not exists(test)]
    assert gone == [], "renamed or removed: run `python -m tests.helpers.times FILE` for their files"
    assert min(slow_tests().values()) >= LIMIT


def test_a_test_that_is_gone_is_seen() -> None:
    assert exists(f"{__name__.replace('.', '/')}.py::test_a_test_that_is_gone_is_seen[one]")
    assert not exists("tests/house/test_slow_list.py::test_of_yesterday")
    assert not exists("tests/house/test_of_yesterday.py::test_anything")


def test_recording_replaces_the_lines_of_tests_that_passed_and_of_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "tests" / "test_ran.py"
    ran.parent.mkdir()
    ran.write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_skips(): pytest.skip('nothing here')\n"
        "def test_fails(): assert False\n"
        "@pytest.fixture\n"
        "def broken():\n"
        "    yield\n"
        "    assert False\n"
        "def test_fails_at_its_end(broken): pass\n"
        "def test_does_not_run(): pass\n"
    )
    names = ("passes", "skips", "fails", "fails_at_its_end", "does_not_run", "is_gone")
    monkeypatch.setattr(times, "SLOW", ran.with_name("slow.csv"))
    times.SLOW.write_text("".join(["seconds,test\n", *(f"9.0,tests/test_ran.py::test_{name}\n" for name in names)]))
    words = ["--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-k", "not does_not_run", str(ran)]
    assert times.record(words) == pytest.ExitCode.TESTS_FAILED
    kept = [test.partition("::test_")[2] for test in slow_tests()]
    assert kept == ["does_not_run", "fails", "fails_at_its_end", "skips"]
    monkeypatch.setattr(times, "LIMIT", -1.0)
    times.record([*words[:-3], "-k", "test_passes", str(ran)])
    assert slow_tests()["tests/test_ran.py::test_passes"] < 9
