"""The columns of a paired comparison, and each column's test on the rows that both runs have."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache

import numpy as np

from unierase_cli.contracts import UserError
from unierase_cli.metrics.base import OVERALL
from unierase_cli.metrics.scores import EDITED, Described
from unierase_cli.metrics.statistics.aggregate import harmonic, paired_difference_interval, row_blocks
from unierase_cli.metrics.statistics.paired import PairedTest, aggregate_sign_flip, compare_rows
from unierase_cli.results.many_runs.rows import COLUMNS
from unierase_cli.results.runs import ScoredRun
from unierase_cli.results.two_runs.compared import ColumnTest

Pair = tuple[ScoredRun, ScoredRun]
EVERYTHING = "all"
# Tolerance for an aggregate to count as the harmonic mean of its recorded parts.
AGREES = 1e-6


def chosen_columns(pairs: Sequence[Pair], wanted: Sequence[str]) -> list[Described]:
    """The columns that all runs have.

    ``wanted``: column ids, names of metrics or splits, or ``all``. Raises UserError for a word that means no column.
    """
    shared = set.intersection(*({column.id for column in run.scores.columns} for pair in pairs for run in pair))
    known = {c.id: c for c in pairs[0][0].scores.columns if c.id in shared}
    if not wanted:
        return [known[column.id] for column in COLUMNS if column.id in known]
    found: dict[str, Described] = {}
    for word in wanted:
        matches = [i for i, c in known.items() if word in (EVERYTHING, i, c.metric, c.split)]
        if not matches:
            words = [*known, *(word for c in known.values() for word in (c.metric, c.split))]
            near = get_close_matches(word, list(dict.fromkeys(words)), n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"choose from: {', '.join(known)}"
            raise UserError(f"--metrics {word}: both runs have no such column", hint)
        found |= {i: known[i] for i in matches}
    return list(found.values())


def compare_column(pairs: Sequence[Pair], column: Described) -> ColumnTest | str:
    """The column's test, its p not yet corrected, or the reason why there is none."""
    versions = {c.version for pair in pairs for run in pair for c in run.scores.columns if c.id == column.id}
    if len(versions) > 1:
        return f"the runs computed it with versions {', '.join(map(str, sorted(versions)))}; `unierase score` recomputes it"
    parts = [run.scores.measure(EDITED, column.id).parts for pair in pairs for run in pair]
    if any(parts):
        return _aggregate(pairs, column, parts)
    aligned = matched(pairs, column.id)
    if isinstance(aligned, str):
        return aligned
    _, first, second, only = aligned
    yes_no = _yes_no().get(column.metric, False)
    return ColumnTest(column, name_of(column), compare_rows(first, second, yes_no=yes_no), *only, yes_no)


def matched(
    pairs: Sequence[Pair], column: str
) -> tuple[list[str], list[float], list[float], tuple[int, int]] | str:
    """Ordered fact ids, each side's values (means over its seeds), and numbers of rows that only one side has; or a reason."""
    sides: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for pair in pairs:
        for letter, run, values in zip("AB", pair, sides, strict=True):
            found = values_by_fact(run, column)
            if isinstance(found, str):
                return f"{letter}: {found}"
            values.append(found)
    everyone = [set.union(*map(set, side)) for side in sides]
    common = sorted(set.intersection(*(set(values) for side in sides for values in side)))
    if not common:
        return "no row is common to both"
    means = [[sum(values[fact] for values in side) / len(side) for fact in common] for side in sides]
    return common, means[0], means[1], (len(everyone[0]) - len(common), len(everyone[1]) - len(common))


def values_by_fact(run: ScoredRun, column: str, state: str = EDITED) -> dict[str, float] | str:
    """A model state's values of a column by fact id, or the reason why there are none."""
    described = next((c for c in run.scores.columns if c.id == column), None)
    found = run.scores.states.get(state, {}).get(column)
    if described is None or found is None:
        return f"{run.name} has no column {column}"
    if found.value is None:
        return found.unavailable or "it was not scored"
    values = found.per_sample
    if not values:
        older = described.split == OVERALL and found.parts is None
        mend = "; an older version scored it, `unierase score` records its parts" if older else ""
        return f"it is a single number over all rows{mend}"
    facts = run.scores.facts.get(f"{described.split}.{described.variant}", [])
    if len(facts) != len(values):
        return f"it scores {len(values)} of {len(facts)} rows, and it is not recorded which ones"
    return dict(zip(facts, values, strict=True))


def _aggregate(
    pairs: Sequence[Pair], column: Described, parts: Sequence[Sequence[str] | None]
) -> ColumnTest | str:
    """The test of an aggregate on the rows that both sides have; members are resampled and swapped row by row."""
    labels = parts[0]
    if labels is None or any(other is None or set(other) != set(labels) for other in parts):
        return "not all runs compute it from the same parts"
    for pair in pairs:
        for run in pair:
            value, *members = (run.scores.measure(EDITED, name).value for name in (column.id, *labels))
            if None in members:
                return f"its part {labels[members.index(None)]} is not a column of {run.name}"
            if value is None or abs(float(harmonic(np.array(members))) - value) > AGREES:
                return "it is not the harmonic mean of its parts, so it cannot be tested"
    first, second, only = {}, {}, (0, 0)
    for label in labels:
        aligned = matched(pairs, label)
        if isinstance(aligned, str):
            return f"its part {label}: {aligned}"
        _, first[label], second[label], alone = aligned
        only = (max(only[0], alone[0]), max(only[1], alone[1]))
    p = aggregate_sign_flip(first, second)
    blocks = row_blocks(first)
    if p is None or blocks is None:
        return "one of its parts has a single row"
    values = [float(harmonic(np.array([np.mean(side[label]) for label in labels]))) for side in (first, second)]
    test = PairedTest(
        n=sum(block.shape[1] for block in blocks.values()),
        first=values[0],
        second=values[1],
        difference=values[1] - values[0],
        ci95=paired_difference_interval(first, second),
        p=p,
        exact=False,
    )
    return ColumnTest(column, name_of(column), test, *only)


def name_of(column: Described) -> str:
    """The column's name for display: the comparison's short title, else split and title."""
    return next((known.title for known in COLUMNS if known.id == column.id), column.name)


@cache
def _yes_no() -> dict[str, bool]:
    """Metric -> whether its rows are yes or no."""
    from unierase_cli.metrics.catalog import all_metrics

    return {metric.NAME: getattr(metric, "YES_NO", False) for metric in all_metrics()}
