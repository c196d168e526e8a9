"""General ability: how well a model answers questions unrelated to the benchmark.

Per suite: accuracy; refusals, by UniErase's rule if its encoder is available (``refusal_by_embedding``), else the listed ones
(``refusal_rate``), and the column's title says which; the mean number of generated tokens; and the share of answers in the
requested format. Tasks of lm-eval: their own metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from unierase_cli.contracts import Measure
from unierase_cli.metrics.base import GENERAL, About, Column, Evidence, mean_result, unavailable
from unierase_cli.metrics.judges.judges import Judges
from unierase_cli.metrics.judges.kinds import JudgeAbsent, JudgeFailed
from unierase_cli.metrics.refusal_by_embedding import are_refusals
from unierase_cli.metrics.refusal_rate import is_refusal

NAME = "general_ability"
VERSION = 3
HIGHER_IS_BETTER = True
PASSES, HARNESS = "general.", "general.lm_eval."
SPLIT = "general"
ACCURACY = About("accuracy", "accuracy", VERSION, True)
REFUSALS = About("idk", "refusals by meaning", VERSION, False)
LISTED = About("idk", "listed refusals", VERSION, False)
LENGTH = About("length", "tokens", VERSION, None)
FORM = About("follow", "form obeyed", VERSION, True)

Row = Mapping[str, Any]


def compute(rows: Sequence[Row]) -> Measure:
    """Share of correct answers; unavailable if a program could not be run, because that says nothing about it."""
    untried = [row for row in rows if row.get("passed", False) is None]
    if untried:
        reason = f"{len(untried)} of {len(rows)} programs could not be run: {untried[0]['reason']}"
        return unavailable(ACCURACY, reason, "run `unierase eval --force` to ask again")
    return mean_result(ACCURACY, [float(row["correct"]) for row in rows])


def columns(evidence: Evidence) -> Iterable[Column]:
    for name, rows in evidence.passes.items():
        if name.startswith(HARNESS):
            yield from _of_task(name.removeprefix(HARNESS), rows)
        elif name.startswith(PASSES):
            yield from _of_suite(name.removeprefix(PASSES), rows, evidence.refusals, evidence.judges)


def _of_suite(suite: str, rows: Sequence[Row], refusals: Sequence[str], judges: Judges) -> Iterable[Column]:
    title = str(rows[0].get("title", suite)) if rows else suite
    values: list[tuple[About, Callable[[Row], float]]] = [
        (LENGTH, lambda row: float(row["tokens"])),
        (FORM, lambda row: float(row["follows"])),
    ]
    about, refused = _refusals(rows, refusals, judges)
    results = {ACCURACY: compute(rows), about: refused}
    results |= {about: mean_result(about, [f(row) for row in rows]) for about, f in values}
    for about, result in results.items():
        yield Column(about.name, f"{title} {about.title}", SPLIT, GENERAL, result, suite)


def _refusals(rows: Sequence[Row], refusals: Sequence[str], judges: Judges) -> tuple[About, Measure]:
    """The share of refusals, and which of the two rules found them."""
    if not refusals:
        return LISTED, unavailable(LISTED, "no refusals are listed", "give token.targets=FILE")
    outputs = [str(row["output"]) for row in rows]
    try:
        return REFUSALS, mean_result(REFUSALS, [float(found) for found in are_refusals(outputs, refusals, judges)])
    except JudgeFailed as failed:
        # The judge may have scored the other model already, and the two rules are not comparable.
        return REFUSALS, unavailable(REFUSALS, str(failed))
    except JudgeAbsent:
        return LISTED, mean_result(LISTED, [float(is_refusal(output, refusals)) for output in outputs])


def _of_task(task: str, rows: Sequence[Row]) -> Iterable[Column]:
    variant = f"lm_eval.{task}"
    reason = next((row["unavailable"] for row in rows if row.get("unavailable")), None)
    if reason is not None:
        # Only the package knows which metrics the task has.
        yield Column(ACCURACY.name, f"lm-eval {task}", SPLIT, GENERAL, unavailable(ACCURACY, str(reason)), variant)
        return
    for metric in dict.fromkeys(str(row["metric"]) for row in rows):
        mine = [row for row in rows if row["metric"] == metric]
        about = About(metric, metric, VERSION, mine[0].get("higher_is_better"))
        if "total" in mine[0]:
            result = about.measure(mine[0]["total"], mine[0]["n"])
        else:
            result = mean_result(about, [float(row["value"]) for row in mine])
        yield Column(metric, f"lm-eval {task} {metric}", SPLIT, GENERAL, result, variant)
