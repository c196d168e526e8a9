"""What tests take, and ``tests/slow.csv``, the list of those that the quick suite leaves out.

``python -m tests.helpers.times tests/ROOM ...`` runs these tests in one process and writes the lines of those that pass anew. The
lines of other tests stay if there still are such tests. A fixture of a whole file is shared out among the tests that ask for it.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

SLOW = Path(__file__).resolve().parents[1] / "slow.csv"
# Processor seconds, child processes included, beyond which a test is slow.
LIMIT = 0.5


def slow_tests() -> dict[str, float]:
    """Processor seconds by a test's id."""
    with SLOW.open(encoding="utf-8", newline="") as stream:
        return {row["test"]: float(row["seconds"]) for row in csv.DictReader(stream)}


def exists(test: str) -> bool:
    """Whether the file of a test's id has a function of its name."""
    file, _, name = test.partition("::")
    path = SLOW.parents[1] / file
    return path.is_file() and f"def {name.partition('[')[0]}(" in path.read_text("utf-8")


class Recorder:
    """A plugin of pytest that counts the processor seconds of every test."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = {}
        # Tests of which no phase was skipped or failed; others may have stopped early.
        self.passed: set[str] = set()
        # By file and name: what a fixture of a whole file took, and the tests that ask for it.
        self.fixtures: dict[tuple[str, str], float] = {}
        self.users: dict[tuple[str, str], list[str]] = {}
        self.inside = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Generator[None, object, object]:
        began, self.inside = _used(), 0.0
        try:
            return (yield)
        finally:
            file, _, _ = item.nodeid.partition("::")
            for name in item.fixturenames:
                self.users.setdefault((file, name), []).append(item.nodeid)
            self.tests[item.nodeid] = _used() - began - self.inside

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when == "setup":
            self.passed.add(report.nodeid)
        elif not report.passed:
            self.passed.discard(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        began = _used()
        try:
            return (yield)
        finally:
            if fixturedef.scope in ("module", "class"):
                used = _used() - began
                file, _, _ = request.node.nodeid.partition("::")
                place = (file, fixturedef.argname)
                self.fixtures[place] = max(used, self.fixtures.get(place, 0.0))
                self.inside += used

    def seconds(self) -> dict[str, float]:
        """By a test's id, its share of the fixtures included."""
        found = dict(self.tests)
        for place, used in self.fixtures.items():
            for test in self.users.get(place, []):
                found[test] += used / len(self.users[place])
        return found


def record(words: list[str]) -> int:
    """Run tests and write down which are slow; pytest's exit code."""
    recorder = Recorder()
    code = pytest.main(["-q", "-p", "no:xdist", *words], plugins=[recorder])
    rows = {name: seconds for name, seconds in slow_tests().items() if name not in recorder.passed and exists(name)}
    rows |= {name: used for name, used in recorder.seconds().items() if used > LIMIT and name in recorder.passed}
    with SLOW.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seconds", "test"])
        writer.writerows([f"{rows[name]:.1f}", name] for name in sorted(rows))
    return int(code)


def _used() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(record(sys.argv[1:]))
