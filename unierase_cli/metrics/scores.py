"""Contents of score files.

``metrics.json``: measures of two model states and the table lines made from them. ``steps.json``: measures after every request.
``precise.json``: means over facts that were forgotten one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from unierase_cli.contracts import Measure
from unierase_cli.metrics.base import OVERALL

BASE, EDITED = "base", "edited"


class Described(Struct, frozen=True, kw_only=True):
    """A column of ``metrics.json`` and of its table. ``group``: forgetting | retention | honesty | overview | general | detail."""

    id: str
    metric: str = ""
    title: str = ""
    split: str = OVERALL
    variant: str = "plain"
    group: str = ""
    higher_is_better: bool | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """Split and title, as tables show them."""
        return self.title if self.split == OVERALL else f"{self.split}: {self.title}"


class Example(Struct, kw_only=True):
    """A question with the answers before and after, and the edited model's answers to variants (None if not asked).

    ``answer_prefix`` includes the given prefix.
    """

    split: str
    fact_id: str = ""
    question: str | None = None
    true: str | None = None
    before: str | None = None
    after: str | None = None
    forbidden: str | None = None
    paraphrased: str | None = None
    answer_prefix: str | None = None


@dataclass(frozen=True)
class Change:
    """A column before and after an edit, and the difference: one line of a table."""

    column: Described
    before: Measure
    after: Measure
    change: Measure

    @property
    def n(self) -> int:
        return self.after.n or self.before.n

    @property
    def unavailable(self) -> str | None:
        """The reason, from the edited state if it has one."""
        return self.after.unavailable or self.before.unavailable

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary; ``ci`` is the edited value's interval."""
        column = self.column
        return {
            "id": column.id, "name": column.name, "group": column.group, "split": column.split, "base": self.before.value,
            "edited": self.after.value, "difference": self.change.value, "n": self.n, "ci": self.after.ci95,
            "difference_ci": self.change.ci95, "higher_is_better": column.higher_is_better, "unavailable": self.unavailable,
        }  # fmt: skip


class Scores(Struct, kw_only=True):
    """``rows``: split -> number of rows. ``facts``: ``split.variant`` -> fact ids, in the order of its ``per_sample`` values.
    ``states`` and ``differences`` (edited - base): column id -> measure. ``stops``: state -> ``split.variant`` -> stop reasons.
    """

    format: int = 1
    rows: dict[str, int] = {}
    facts: dict[str, list[str]] = {}
    columns: list[Described] = []
    states: dict[str, dict[str, Measure]]
    differences: dict[str, Measure] = {}
    stops: dict[str, dict[str, dict[str, int]]] = {}
    examples: list[Example] = []
    warnings: list[str] = []

    def measure(self, state: str, column: str) -> Measure:
        """A column of a state; an empty measure if the state lacks it."""
        return self.states.get(state, {}).get(column) or Measure()

    def changes(self) -> list[Change]:
        """The lines of the table, in order."""
        apart = self.differences
        return [
            Change(c, self.measure(BASE, c.id), self.measure(EDITED, c.id), apart.get(c.id, Measure())) for c in self.columns
        ]

    def table(self) -> list[dict[str, Any]]:
        """The table lines as JSON values, for commands to print and summaries to store."""
        return [change.to_json() for change in self.changes()]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "columns": list(map(asdict, self.columns)),
            "states": {state: {i: m.to_json() for i, m in found.items()} for state, found in self.states.items()},
            "differences": _brief(self.differences),
            "examples": list(map(asdict, self.examples)),
        }


class AfterStep(Struct, kw_only=True):
    """The model after a request (``step`` from 1), the unedited model on the same rows (``before``), and the edit's cost."""

    step: int
    facts: int
    forgotten_so_far: int = 0
    seconds: float | None = None
    changed_share: float | None = None
    measures: dict[str, Measure]
    before: dict[str, Measure] = {}


class Trajectory(Struct, kw_only=True):
    """``steps.json``. ``columns``: ``id``, ``title`` and ``higher_is_better`` of each. ``before``: the unedited model on the same
    rows, with every fact that is ever forgotten as ``forget_so_far``.
    """

    format: int = 1
    columns: list[dict[str, Any]] = []
    before: dict[str, Measure]
    steps: list[AfterStep]

    def to_json(self) -> dict[str, Any]:
        steps = [asdict(s) | {"measures": _brief(s.measures), "before": _brief(s.before)} for s in self.steps]
        return asdict(self) | {"before": _brief(self.before), "steps": steps}


class OverFacts(Struct, kw_only=True):
    """A mean over ``n`` facts before and after. ``ci95``: of the change if there is one, else of the value after."""

    id: str
    title: str
    higher_is_better: bool | None = None
    n: int = 0
    before: float | None = None
    after: float | None = None
    change: float | None = None
    ci95: tuple[float, float] | None = None
    unavailable: str | None = None


class Precise(Struct, kw_only=True):
    """``precise.json``. ``threshold``: a fact with at most this ROUGE-L recall counts as forgotten."""

    format: int = 1
    facts: int
    threshold: float | None = None
    measures: list[OverFacts]


def _brief(measures: dict[str, Measure]) -> dict[str, Any]:
    return {name: measure.brief() for name, measure in measures.items()}
