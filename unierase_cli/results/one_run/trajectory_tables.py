"""The table of a trajectory, from ``steps.json``."""

from __future__ import annotations

from collections.abc import Mapping

from unierase_cli.contracts import Measure
from unierase_cli.metrics.scores import AfterStep, Trajectory
from unierase_cli.results.table import Table

# (header, measure) of each column; columns without any value are left out.
SHOWN = (
    ("this\nrequest", "forget_now.rouge"),
    ("earlier\nones", "forget_before.rouge"),
    ("all\nso far", "forget_so_far.rouge"),
    ("first token\n[UNL]", "forget_so_far.first_token_unlearn"),
    ("retain,\nnever seen", "retain_unseen.rouge"),
    ("real\nauthors", "real_authors.rouge"),
    ("world\nfacts", "world_facts.rouge"),
    ("model\nutility", "all.model_utility"),
)
CAPTION = "ROUGE-L recall after each request: low is good for what was to be forgotten, high for what was to be kept. "
CAPTION += "Step 0 is the unedited model, with all requests in the column `all so far`."


def trajectory_table(found: Trajectory) -> Table:
    """One row per step."""
    rows = [("0", "", found.before, "", "")]
    rows += [(str(s.step), str(s.facts), s.measures, _seconds(s), _share(s)) for s in found.steps]
    shown = [(title, name) for title, name in SHOWN if any(_value(row[2], name) for row in rows)]
    columns = ("step", "facts", *(title for title, _ in shown), "seconds", "changed")
    body = tuple(
        (step, facts, *(_value(measures, name) for _, name in shown), seconds, share)
        for step, facts, measures, seconds, share in rows
    )
    return Table("Step by step", columns, body, frozenset(columns), CAPTION)


def _value(measures: Mapping[str, Measure], name: str) -> str:
    value = measures.get(name, Measure()).value
    return "" if value is None else f"{value:.3f}"


def _seconds(step: AfterStep) -> str:
    return "" if step.seconds is None else f"{step.seconds:.0f}"


def _share(step: AfterStep) -> str:
    return "" if step.changed_share is None else f"{100 * step.changed_share:.2f} %"
