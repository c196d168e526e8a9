"""The page of one run: what was asked and what came of it, answers, what comes back, what was kept, all numbers, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unierase_cli.audit.findings import Audit
from unierase_cli.metrics.scores import BASE, EDITED, Change, Scores, Trajectory
from unierase_cli.results.one_run import collateral, tables, trajectory_picture
from unierase_cli.results.one_run.trajectory_tables import trajectory_table
from unierase_cli.results.page.answers import Answer, answers_html
from unierase_cli.results.page.attacks import attacks_html
from unierase_cli.results.page.curves import Curve, curves
from unierase_cli.results.page.document import document, escaped, folded, listed, pairs, section
from unierase_cli.results.page.headline import header_html, most_back, sentence_of
from unierase_cli.results.page.origin import origin_html
from unierase_cli.results.page.ranges import Range, ranges_html
from unierase_cli.results.page.scatter import Dot, scatter
from unierase_cli.results.page.svg import Axis
from unierase_cli.results.page.tables import table_html
from unierase_cli.results.table import Table

FORGET, KEPT, LEAK, RETENTION = "forget.rouge", "retain_unseen.rouge", ".leak", "retention"
# Columns of recall of what was to be kept, the headline first.
OF_KEPT = tuple(
    f"{split}.rouge" for split in ("retain_unseen", "retain_near", "retain_protected", "real_authors", "world_facts")
)
SCALE = "Recall from 0 to 1, with 95 % intervals. ○ before, ● after."


def run_page(
    title: str,
    scores: Scores,
    answers: Sequence[Answer],
    *,
    asked: int,
    command: str,
    audit: Audit | None = None,
    trajectory: Trajectory | None = None,
    damage: Mapping[str, Any] | None = None,
    further: Sequence[Table] = (),
    remarks: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
    settings: str = "",
) -> str:
    """The page. ``asked``: how many facts were to be forgotten; ``command``: what audits this run; ``damage``: the collateral map;
    ``further``: tables for the part of all numbers; ``about``, ``settings``: where the numbers come from.
    """
    kept_id = next((name for name in OF_KEPT if scores.measure(EDITED, name).value is not None), KEPT)
    forget = range_of(scores, FORGET, "Recall of what it should forget", "forget", "0: all forgotten")
    kept = range_of(scores, kept_id, "Recall of what it should keep", "keep", f"{_split(kept_id)} · 1: all kept")
    third = most_back(audit) if audit else _most_leaked(scores)
    every = [tables.headline_table(scores), tables.honesty_table(scores), *tables.general_tables(scores)]
    every += [*tables.number_tables(scores), *further]
    numbers = "".join(table_html(table) for table in every if table.rows)
    parts = [
        ("answers", "Answers before and after", answers_html(answers), ""),
        ("steps", "Request by request", _steps(trajectory), ""),
        ("back", "What comes back", _back(scores, audit), ""),
        ("kept", "What was kept", _kept(scores, damage), ""),
        ("numbers", "All numbers", folded("Every table", numbers), ""),
        ("remarks", "Remarks", listed(list(remarks)) + _unavailable(scores), ""),
        (
            "origin",
            "Where the numbers come from",
            folded("Keys, versions and settings", origin_html(about or {}, settings)),
            "",
        ),
    ]
    links = "".join(f'<a href="#{name}">{escaped(head)}</a>' for name, head, body, _ in parts if body)
    top = header_html(title, sentence_of(asked, forget, kept, audit), [forget, kept, third], "" if audit else command)
    return document(title, f"{top}<nav>{links}</nav><main>{''.join(section(*part) for part in parts)}</main>")


def _unavailable(scores: Scores) -> str:
    """The reasons for numbers that are not there, each with all of them."""
    reasons: dict[str, list[str]] = {}
    for change in scores.changes():
        if change.unavailable:
            reasons.setdefault(tables.PART_OF.sub("", change.unavailable), []).append(change.column.name)
    count = sum(map(len, reasons.values()))
    told = pairs({why: ", ".join(names) for why, names in reasons.items()})
    return folded(f"{count} numbers are not available, and why", told)


def range_of(scores: Scores, column: str, label: str, kind: str, note: str = "") -> Range:
    """A column's number after the edit, with its interval and the number before."""
    after, before = scores.measure(EDITED, column), scores.measure(BASE, column)
    return Range(label, after.value, after.ci95, kind, before.value, after.unavailable or note)


def _split(column: str) -> str:
    split = column.partition(".")[0]
    return tables.NAMES.get(split, split)


def _leaks(scores: Scores) -> list[Change]:
    """The columns of forget questions asked in other ways that have a number."""
    found = [change for change in scores.changes() if change.after.value is not None]
    return [c for c in found if c.column.id.startswith("forget.") and c.column.id.endswith(LEAK)]


def _most_leaked(scores: Scores) -> Range:
    title, found = "Recall when asked in other ways", _leaks(scores)
    if not found:
        return Range(title, None, note="nothing was asked in other ways")
    best = max(found, key=lambda change: change.after.value or 0.0)
    return Range(title, best.after.value, best.after.ci95, note=f"the most: {_way(best)}")


def _way(change: Change) -> str:
    """The way of asking: ``ROUGE-L recall, [UNL] forbidden`` without the metric."""
    return change.column.title.partition(", ")[2] or change.column.title


def _back(scores: Scores, audit: Audit | None) -> str:
    plain = range_of(scores, FORGET, "plain questions", "forget")
    lines = [plain, *(Range(_way(c), c.after.value, c.after.ci95) for c in _leaks(scores))]
    asked = f"<h3>Asked in other ways</h3>{ranges_html(lines, SCALE)}" if len(lines) > 1 else ""
    if audit is None:
        return asked
    return f"<p><strong>{escaped(audit.line)}</strong></p>{attacks_html(audit)}{asked}"


def _kept(scores: Scores, damage: Mapping[str, Any] | None) -> str:
    known = [name for name in OF_KEPT if scores.measure(EDITED, name).value is not None]
    body = ranges_html([range_of(scores, name, _split(name), "keep") for name in known], SCALE)
    if not damage or damage["unavailable"]:
        return body
    lost = collateral.worst_table(damage)
    table = (
        table_html(lost)
        if lost.rows
        else f"<p>No group of questions lost anything. {escaped(collateral.association(damage))}</p>"
    )
    return body + "<h3>Collateral damage</h3>" + (_damage_picture(damage) if lost.rows else "") + table


def _damage_picture(damage: Mapping[str, Any]) -> str:
    """Each retained group's change against its similarity to what was forgotten; the groups that lost most are named."""
    groups = damage["groups"]
    changes, alike = [row["change"] for row in groups], [row["similarity"] for row in groups]
    dots = [
        Dot(
            row["group"] if number < collateral.NAMED and row["change"] < 0 else "",
            row["similarity"],
            row["change"],
            kind=row["split"],
            about=f"{row['group']} ({_split(row['split'])}): {row['before']:.2f} → {row['after']:.2f}",
        )
        for number, row in enumerate(groups)
    ]
    across = Axis("similarity to the nearest forgotten group", *_around(alike, 0.0, 1.0))
    splits = [row["split"] for row in groups]
    names = {split: f"{_split(split)} ({splits.count(split)})" for split in sorted(set(splits))}
    up = Axis("change of recall", *_around([*changes, 0.0], -1.0, 1.0))
    return scatter("Change of recall of each group", dots, across, up, names=names)


def _around(values: Sequence[float], least: float, most: float) -> tuple[float, float, bool]:
    """Limits a little outside the values, and whether they are all of what can be."""
    room = max(0.1 * (max(values) - min(values)), 0.02)
    low, high = max(least, min(values) - room), min(most, max(values) + room)
    return round(low, 3), round(high, 3), (low, high) == (least, most)


def _steps(found: Trajectory | None) -> str:
    if found is None:
        return ""
    drawn = []
    chosen = (("Forgotten: low is good", trajectory_picture.FORGOTTEN), ("Kept: high is good", trajectory_picture.KEPT))
    for title, columns in chosen:
        lines = [
            Curve(label, points, f"c{place}")
            for place, (column, label, *_) in enumerate(columns)
            if (points := trajectory_picture.points_of(found, column))
        ]
        drawn.append(
            curves(title, lines, "requests served", "recall", ["Bands: 95 % intervals. 0: the unedited model."])
        )
    return f'<div class="beside">{"".join(drawn)}</div>' + folded(
        "The numbers of every step", table_html(trajectory_table(found))
    )
