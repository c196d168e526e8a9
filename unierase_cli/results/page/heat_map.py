"""The heat map of several audits: attacks down, runs across, a cell the share that comes back, with its number."""

from __future__ import annotations

from collections.abc import Sequence

from unierase_cli.audit.base import CLASSES, PLAIN
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.results.audits.picture import rows_of
from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.ranges import Range, ranges_html, spread

NOTE = (
    "Share of the lost facts that each attack brings back: 0 as in a model that never had them, 1 as in the unedited model. "
    "What lies outside is drawn at the end of the axis. "
    f"An attacker needs: {', '.join(f'{letter} {kind}' for kind, letter in CLASSES.items())}."
)
KEYS = "Hatched: no share. ◦: its interval reaches 0. The last line is the recall on questions that should be kept."


def shares_html(audit: Audit) -> str:
    """One audit: every attack's share on one axis, with its interval, plain questions first, then by class."""
    found = {finding.attack: finding for finding in audit.headlines()}
    return ranges_html([_range(found[attack]) for attack, _ in rows_of([audit])], NOTE)


def heat_map_html(audits: Sequence[Audit]) -> str:
    """Several audits side by side."""
    runs = "".join(f'<th scope="col">{escaped(audit.title.partition(",")[0])}</th>' for audit in audits)
    heads = [{finding.attack: finding for finding in audit.headlines()} for audit in audits]
    body = "".join(
        f'<tr><th scope="row">{escaped(_name(attack, kind))}</th>{"".join(_cell(head.get(attack)) for head in heads)}</tr>'
        for attack, kind in rows_of(audits)
    )
    kept = "".join(f"<td>{'n/a' if audit.retained is None else f'{audit.retained:.2f}'}</td>" for audit in audits)
    body += f'<tr class="kept"><th scope="row">recall kept</th>{kept}</tr>'
    table = f"<table><thead><tr><th></th>{runs}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<figure class="heat"><figcaption class="note">{escaped(NOTE)}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="share that comes back">{table}</div>'
        f'<p class="note">{escaped(KEYS)}</p></figure>'
    )


def _cell(found: Finding | None) -> str:
    if found is None or found.share is None:
        why = "not made" if found is None else found.why_no_share
        return f'<td class="without" title="{escaped(why)}">n/a</td>'
    share = min(1.0, max(0.0, found.share))
    low = " ◦" if found.share_ci is not None and found.share_ci[0] <= 0 else ""
    return f'<td class="share" style="--share:{100 * share:.0f}%" title="{escaped(spread(found.share_ci))}">{share:.2f}{low}</td>'


def _range(found: Finding) -> Range:
    kind = "forget" if found.attack == PLAIN else "back"
    note = found.why_no_share if found.share is None else found.word
    note += " · weak evidence" if found.weak else ""
    return Range(_name(found.attack, found.kind), found.share, found.share_ci, kind, note=note)


def _name(attack: str, kind: str) -> str:
    return "plain questions" if attack == PLAIN else f"{CLASSES[kind]} {attack.replace('_', ' ')}"
