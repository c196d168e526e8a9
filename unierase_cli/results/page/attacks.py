"""What the attacks of one audit brought back: shares with intervals, curves of relearning, examples, tables, notes."""

from __future__ import annotations

import re
from collections import defaultdict

from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.results.audits.tables import attack_table, best_table, example_table, notes
from unierase_cli.results.page.curves import Curve, curves
from unierase_cli.results.page.document import folded, listed
from unierase_cli.results.page.heat_map import shares_html
from unierase_cli.results.page.tables import table_html

# A setting that was looked at several times: its name and the number of steps.
STEPS = re.compile(r"(?P<case>.+), (?P<steps>\d+) steps")
BAND = "Band: the 95 % interval of what comes back beyond the model that never had the facts."


def attacks_html(audit: Audit) -> str:
    """All of it; ``audit`` has at least the plain questions."""
    examples, found = (
        example_table(audit),
        [attack_table(audit), best_table(audit), attack_table(audit, everything=True)],
    )
    return (
        shares_html(audit)
        + relearning_html(audit)
        + (table_html(examples) if examples.rows else "")
        + folded("Every attack and setting", "".join(table_html(table) for table in found if table.rows))
        + folded("Notes on the attacks", listed(notes(audit)))
    )


def relearning_html(audit: Audit) -> str:
    """A picture for the first setting of every attack that looks several times: the unlearned model, the control, the ceiling."""
    looks: dict[tuple[str, str], list[tuple[int, Finding]]] = defaultdict(list)
    for found in audit.findings:
        if match := STEPS.fullmatch(found.setting):
            looks[found.attack, match["case"]].append((int(match["steps"]), found))
    chosen = {(f.attack, m["case"]) for f in audit.headlines() if (m := STEPS.fullmatch(f.setting))}
    drawn = [
        _picture(*place, sorted(some, key=lambda look: look[0])) for place, some in looks.items() if place in chosen
    ]
    return f'<div class="beside">{"".join(drawn)}</div>' if any(drawn) else ""


def _picture(attack: str, case: str, looks: list[tuple[int, Finding]]) -> str:
    start = looks[0][1].plain
    lines = [Curve("unlearned", [*([] if start is None else [(0, start, None)]), *map(_point, looks)], "back")]
    for label, colour in (("control", "keep"), ("ceiling", "forget")):
        points = [(step, value, None) for step, found in looks if (value := getattr(found, label)) is not None]
        lines.append(Curve(label, points, colour, dashed=True))
    notes_ = [case, "control: the model that never had the facts; ceiling: the unedited one.", BAND]
    return curves(f"Recall under {attack.replace('_', ' ')}", lines, "steps of training", "recall", notes_)


def _point(look: tuple[int, Finding]) -> tuple[float, float, tuple[float, float] | None]:
    step, found = look
    if found.control is None or found.excess_ci is None:
        return step, found.recovered, None
    low, high = found.excess_ci
    return step, found.recovered, (found.control + low, found.control + high)
