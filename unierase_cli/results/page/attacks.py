"""What the attacks of one audit brought back: shares with intervals, curves of relearning, examples, tables, notes."""

from __future__ import annotations

from unierase_cli.audit import series
from unierase_cli.audit.findings import Audit
from unierase_cli.results.audits.tables import attack_table, best_table, example_table, notes
from unierase_cli.results.page.curves import Curve, curves
from unierase_cli.results.page.document import folded, listed
from unierase_cli.results.page.heat_map import shares_html
from unierase_cli.results.page.tables import table_html

CONTROL = "control: a model that never had the facts."
BAND = "Recall of facts that are not trained on; 0: before training. Bands: 95 % intervals over groups."


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
    """A picture for the first setting of every attack that looks several times: this model, the control, the unedited one."""
    first = {curve.attack: curve for curve in reversed(audit.curves)}
    drawn = [_picture(first[attack]) for attack in dict.fromkeys(curve.attack for curve in audit.curves)]
    return f'<div class="beside">{"".join(drawn)}</div>' if any(drawn) else ""


def _picture(found: series.Curve) -> str:
    told = (("this model", found.unlearned, "back"), ("control", found.control, "keep"), ("unedited", found.ceiling, "forget"))
    lines = [
        Curve(label, [(point.at, point.mean, point.interval) for point in points], colour, dashed=label != "this model")
        for label, points, colour in told
    ]
    named = [found.setting, *([CONTROL] if found.control else []), BAND]
    return curves(f"Recall under {found.attack.replace('_', ' ')}", lines, f"{found.unit} of training", "recall", named)
