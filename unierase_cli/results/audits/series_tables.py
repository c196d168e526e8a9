"""Tables along a line: how soon models relearn, what rounding makes of the edit."""

from __future__ import annotations

from unierase_cli.audit.curves import CEILING, CONTROL, UNLEARNED
from unierase_cli.audit.findings import Audit
from unierase_cli.audit.series import Curve
from unierase_cli.results.table import Table

SPEED = (
    "How soon half of what the unedited model says before training is back, of facts that are not trained on; in proportion "
    "between two looks. faster: log2 of the control's time over this model's, so that 1 is twice as fast."
)
ROUNDING = (
    "Share of the edited weights that rounding puts where it puts the unedited ones, and the largest change over a step of the "
    "grid. What is put back cannot keep a fact away."
)


def speed_table(audit: Audit) -> Table:
    """A line for every curve that has a level to reach."""
    body = [
        (curve.attack, curve.setting, *(_time(curve, model) for model in (UNLEARNED, CONTROL, CEILING)), _faster(curve))
        for curve in audit.curves
        if curve.level is not None
    ]
    columns = ("attack", "setting", "this model", "control", "unedited", "faster")
    return Table("How soon it is relearned", columns, tuple(body), frozenset(columns[2:]), SPEED)


def rounding_table(audit: Audit) -> Table:
    """A line for every edited matrix, two columns for every way of rounding."""
    ways = list(dict.fromkeys(one.setting for one in audit.rounding))
    found = {(one.matrix, one.setting): one for one in audit.rounding}
    body = []
    for matrix in dict.fromkeys(one.matrix for one in audit.rounding):
        told = [found.get((matrix, way)) for way in ways]
        cells = [text for one in told for text in (("n/a", "n/a") if one is None else (f"{one.undone:.3f}", f"{one.largest:.2f}"))]
        body.append((matrix, *cells))
    columns = ("matrix", *(name for way in ways for name in (f"{way} undone", f"{way} largest")))
    return Table("What rounding undoes", columns, tuple(body), frozenset(columns[1:]), ROUNDING)


def _time(curve: Curve, model: str) -> str:
    line = {UNLEARNED: curve.unlearned, CONTROL: curve.control, CEILING: curve.ceiling}[model]
    if not line:
        return "n/a"
    reached = curve.reached.get(model)
    return f"not in {line[-1].at:g} {curve.unit}" if reached is None else f"{reached:.3g} {curve.unit}"


def _faster(curve: Curve) -> str:
    return "n/a" if curve.faster is None else f"{'at least ' if curve.at_least else ''}{curve.faster:.1f}"
