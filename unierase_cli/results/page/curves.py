"""Curves over steps with bands, each named at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.svg import LETTER, TEXT, Axis, Frame, frame, picture

Interval = tuple[float, float]
# Most letters of a name beside the curve's end.
LONGEST = 20
# Two of them stand side by side on a screen.
HALF = 520


@dataclass(frozen=True)
class Curve:
    """Points (x, y, interval of y or None), from left to right. ``colour``: c0 to c5, forget, keep or back."""

    label: str
    points: Sequence[tuple[float, float, Interval | None]]
    colour: str
    dashed: bool = False


def curves(title: str, found: Sequence[Curve], across: str, up: str, notes: Sequence[str] = ()) -> str:
    """The picture, from 0 to 1; empty without a curve of at least two points."""
    found = [curve for curve in found if len(curve.points) > 1]
    if not found:
        return ""
    places = [x for curve in found for x, *_ in curve.points]

    def draw(width: float) -> tuple[float, str]:
        height = min(360.0, width * 0.9)
        room = LETTER * min(LONGEST, max(len(curve.label) for curve in found)) + 14
        axis = Axis(across, min(places), max(places), counted=True)
        inside, drawn = frame(axis, Axis(up), width, height, right=min(room, width * 0.42))
        return height, drawn + "".join(_curve(curve, inside) for curve in found) + _names(found, inside)

    return picture(title, draw, notes, HALF)


def _curve(curve: Curve, inside: Frame) -> str:
    line = " ".join(f"{inside.x(x):.1f},{inside.y(y):.1f}" for x, y, _ in curve.points)
    known = [(x, interval) for x, _, interval in curve.points if interval]
    band = ""
    if len(known) > 1:
        above = [f"{inside.x(x):.1f},{inside.y(min(1.0, high)):.1f}" for x, (_, high) in known]
        below = [f"{inside.x(x):.1f},{inside.y(max(0.0, low)):.1f}" for x, (low, _) in reversed(known)]
        band = f'<polygon class="band {curve.colour}" points="{" ".join([*above, *below])}"/>'
    dots = "".join(
        f'<circle class="{curve.colour}" cx="{inside.x(x):.1f}" cy="{inside.y(y):.1f}" r="3"><title>'
        f"{escaped(curve.label)}, {x:g}: {y:.3f}</title></circle>"
        for x, y, _ in curve.points
    )
    dashed = " dashed" if curve.dashed else ""
    return f'{band}<polyline class="curve {curve.colour}{dashed}" points="{line}"/>{dots}'


def _names(found: Sequence[Curve], inside: Frame) -> str:
    """The names at the curves' ends, moved apart where they would cover each other."""
    _, top, right, bottom = inside.box
    ends = sorted(((inside.y(curve.points[-1][1]), curve) for curve in found), key=lambda end: end[0])
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + TEXT + 2) if places else y)
    # Too far down: move all up from the last.
    for n in range(len(places) - 1, -1, -1):
        limit = bottom if n == len(places) - 1 else places[n + 1] - TEXT - 2
        places[n] = max(top, min(places[n], limit))
    return "".join(
        f'<text class="name {curve.colour}" x="{right + 8:.1f}" y="{place + 4:.1f}">{escaped(_short(curve.label))}</text>'
        for (_, curve), place in zip(ends, places, strict=True)
    )


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
