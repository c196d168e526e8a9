"""Causal tracing as tables, from ``trace.json``: mean indirect effects by block and class of tokens."""

from __future__ import annotations

from unierase_cli.results.one_run.trace_record import Trace
from unierase_cli.results.table import Table

TITLES = {
    "residual": "one block's output",
    "mlp": "MLP outputs in a window of {window} blocks",
    "attention": "attention outputs in a window of {window} blocks",
}
CAPTION = "Mean change of the probability of the answer's first token when one token's state is restored while noise hides "
CAPTION += "the subject. A window is centred on its block. The largest of a column is bold; intervals are in trace.json."


def trace_tables(trace: Trace) -> list[Table]:
    """A table per kind of states: blocks down, classes of tokens across."""
    return [_table(trace, kind) for kind in trace.kinds()]


def _table(trace: Trace, kind: str) -> Table:
    curves = [curve for curve in trace.curves if curve.kind == kind and curve.measure == "probability"]
    columns = ("block", *(f"{curve.position}\n({curve.facts} facts)" for curve in curves))
    rows = tuple(
        (str(block), *(f"{curve.mean[block]:+.3f}" for curve in curves)) for block in range(trace.blocks)
    )
    largest = ((curve.mean.index(max(curve.mean)), place) for place, curve in enumerate(curves, start=1))
    title = f"Restored: {TITLES[kind].format(window=trace.window)}"
    return Table(title, columns, rows, frozenset(columns), strong=frozenset(largest))
