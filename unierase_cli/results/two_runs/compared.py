"""What a paired comparison says: the test of every column, the questions that differ most, and of which runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unierase_cli.metrics.scores import Described
from unierase_cli.metrics.statistics.paired import PairedTest

FORMAT = 1


@dataclass(frozen=True)
class ColumnTest:
    """A column's test on the rows that both runs have; ``only_first`` and ``only_second`` count the others.

    ``name``: as people read it. ``yes_no``: whether the metric's rows are each a yes or a no. ``holm``: the test's p, corrected for
    all columns of the comparison.
    """

    column: Described
    name: str
    test: PairedTest
    only_first: int
    only_second: int
    yes_no: bool = False
    holm: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Flat."""
        column = {"id": self.column.id, "name": self.name, "higher_is_better": self.column.higher_is_better}
        rest = {"only_first": self.only_first, "only_second": self.only_second, "yes_no": self.yes_no, "holm": self.holm}
        return {**column, **asdict(self.test), **rest}


@dataclass(frozen=True)
class ChangedQuestion:
    """A question that two runs answer differently. ``first`` and ``second``: the answers of the first pair's seed; ROUGE-L recall
    is the mean over seeds. Answers and question are None where what that model said is no longer there.
    """

    split: str
    fact_id: str
    question: str | None
    true: str | None
    first: str | None
    second: str | None
    rouge_first: float
    rouge_second: float
    difference: float


@dataclass(frozen=True)
class ComparedRun:
    """A run that was paired: ``name`` as commands accept it, its score's key, its seed."""

    name: str
    key: str
    seed: int


@dataclass(frozen=True)
class ComparedSide:
    """What a RUN of the command line meant. ``label``: the method, with the settings that tell the two sides apart."""

    word: str
    label: str
    runs: list[ComparedRun]


@dataclass(frozen=True)
class Comparison:
    """Differences are second - first. ``seeds``: of every pair. ``remarks``: what a reader of the numbers has to know."""

    first: ComparedSide
    second: ComparedSide
    seeds: list[tuple[int, int]]
    columns: list[ColumnTest]
    questions: list[ChangedQuestion]
    remarks: list[str]

    def to_json(self) -> dict[str, Any]:
        """As ``unierase compare --json`` prints it."""
        return {"format": FORMAT, **asdict(self), "columns": [column.to_json() for column in self.columns]}
