"""Numbers with intervals as marks on one axis from 0 to 1, one line each, label and number beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.results.page.document import escaped

Interval = tuple[float, float]


@dataclass(frozen=True)
class Range:
    """One line. ``kind``: forget, keep or back, its colour. ``before``: a hollow mark. ``value`` None: ``note`` says why."""

    label: str
    value: float | None
    interval: Interval | None = None
    kind: str = "back"
    before: float | None = None
    note: str = ""


def ranges_html(rows: Sequence[Range], about: str) -> str:
    """A list of lines below a scale from 0 to 1; marks outside are drawn at its ends. ``about``: what the scale measures."""
    if not rows:
        return ""
    ticks = '<span class="ticks"><i>0</i><i>0.5</i><i>1</i></span>'
    scale = f'<li class="scale" aria-hidden="true"><span></span>{ticks}<span></span></li>'
    lines = "".join(map(_line, rows))
    return (
        f'<figure class="ranges"><figcaption class="note">{escaped(about)}</figcaption><ul>{scale}{lines}</ul></figure>'
    )


def track(value: float | None, interval: Interval | None, before: float | None = None) -> str:
    """The axis of one line: its interval, a mark at the number, a hollow one at what it was."""
    marks = ""
    if before is not None:
        marks += f'<i class="dot was" style="left:{_place(before):.1f}%"></i>'
    if interval is not None:
        low, high = map(_place, interval)
        marks += f'<i class="span" style="left:{low:.1f}%;width:{max(high - low, 0.4):.1f}%"></i>'
    if value is not None:
        marks += f'<i class="dot" style="left:{_place(value):.1f}%"></i>'
    return f'<span class="track" aria-hidden="true">{marks}</span>'


def spread(interval: Interval | None) -> str:
    """``0.00 to 0.05``, or an empty text."""
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _line(row: Range) -> str:
    told = f'<span class="note">{escaped(row.note)}</span>' if row.note else ""
    number = "n/a" if row.value is None else f"{row.value:.2f}"
    was = "" if row.before is None else f'<span class="was">{row.before:.2f} → </span>'
    between = f'<span class="note">{spread(row.interval)}</span>' if row.interval else ""
    return (
        f'<li class="{escaped(row.kind)}"><span class="label">{escaped(row.label)}{told}</span>'
        f'{track(row.value, row.interval, row.before)}<span class="number">{was}<b>{number}</b>{between}</span></li>'
    )


def _place(value: float) -> float:
    """Percent from the left, inside the axis."""
    return 100 * min(1.0, max(0.0, value))
