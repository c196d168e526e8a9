"""Tables of a paired comparison."""

from __future__ import annotations

from unierase_cli.metrics.statistics.paired import EXACT_ROWS, FLIPS
from unierase_cli.results.one_run.tables import NAMES, cut, interval
from unierase_cli.results.table import Table
from unierase_cli.results.two_runs.compared import ComparedSide, Comparison

SIGNIFICANT = 0.05
ABSENT = "(no longer there)"
CAPTION = (
    "A, B: means over the rows that both runs have. 95 %: paired bootstrap interval of B - A over rows. p: two-sided sign-flip "
    f"permutation test (all patterns up to {EXACT_ROWS} differing rows, else {FLIPS} random ones). Holm: corrected for all columns "
    "shown. McNemar: exact, for yes/no columns. Last three: rows where A is higher, where B is higher, and ties. Bold: the better "
    f"side, if Holm's p is at most {SIGNIFICANT}. The tests are about these questions; they do not cover variation between seeds."
)


def tables(compared: Comparison, *, width: int = 0) -> list[Table]:
    """The tests, then each split's questions; ``width`` shortens long answers, 0 does not."""
    return [_tests(compared), *_questions(compared, width)]


def _tests(compared: Comparison) -> Table:
    with_mcnemar = any(row.test.mcnemar is not None for row in compared.columns)
    heads = ["A", "B", "B - A", "95 %", "p", "Holm", *(["McNemar"] if with_mcnemar else []), "n", "A > B", "A < B", "ties"]
    body, strong = [], set()
    for number, row in enumerate(compared.columns):
        test, better = row.test, row.column.higher_is_better
        counts = ["-" if count is None else str(count) for count in (test.higher_first, test.higher_second, test.ties)]
        cells = [f"{test.first:.3f}", f"{test.second:.3f}", f"{test.difference:+.3f}", interval(test.ci95, signed=True)]
        cells += [_p(test.p), _p(row.holm), *([_p(test.mcnemar)] if with_mcnemar else []), str(test.n), *counts]
        body.append((row.name, *cells))
        if row.holm <= SIGNIFICANT:
            # A metric without a direction has no better side; then the difference itself is bold.
            strong.add((number, 3 if better is None else 2 if better == (test.difference > 0) else 1))
    title = f"{_side('A', compared.first)}\n{_side('B', compared.second)}"
    return Table(title, ("", *heads), tuple(body), frozenset(heads), CAPTION, frozenset(strong))


def _questions(compared: Comparison, width: int) -> list[Table]:
    columns = ("question", "true answer", "A", "B", "ROUGE-L A", "ROUGE-L B")
    splits = list(dict.fromkeys(row.split for row in compared.questions))
    found = []
    for split in splits:
        body = tuple(
            (
                *(cut(text, width, ABSENT) for text in (row.question or row.fact_id, row.true, row.first, row.second)),
                f"{row.rouge_first:.3f}",
                f"{row.rouge_second:.3f}",
            )
            for row in compared.questions
            if row.split == split
        )
        found.append(Table(f"Changed most: {NAMES.get(split, split)}", columns, body, frozenset(columns[-2:])))
    return found


def _side(letter: str, side: ComparedSide) -> str:
    return f"{letter}: {side.label} ({', '.join(run.name for run in side.runs)})"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
