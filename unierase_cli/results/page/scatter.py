"""Points on two axes, each with its label beside it and its numbers on hover: methods, or groups of retained questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unierase_cli.results.page.document import escaped
from unierase_cli.results.page.svg import DISTANCES, NARROW, Axis, Frame, frame, picture, place_labels, text

Interval = tuple[float, float]
COLOURS = 6


@dataclass(frozen=True)
class Dot:
    """A point. ``kind``: points of one kind share a colour, "" is grey. ``mark``: a short name that stands in the point.

    ``keys``: what filters choose it by.
    """

    label: str
    x: float
    y: float
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    kind: str = ""
    mark: str = ""
    about: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)


def scatter(
    title: str,
    dots: Sequence[Dot],
    across: Axis,
    up: Axis,
    *,
    notes: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> str:
    """The picture. A label that would cover something is left out.

    ``names``: kind -> its name, for a line that says the colours where labels do not.
    """
    if not dots:
        return ""
    kinds = list(dict.fromkeys(dot.kind for dot in dots if dot.kind))
    cut = [axis for axis in (across, up) if not axis.whole]
    shown = "; ".join(f"{axis.title}: {axis.low:g} to {axis.high:g}" for axis in cut)
    told = [*notes, *([f"Not the whole range is shown. {shown[0].upper()}{shown[1:]}."] if cut else [])]
    marks = [(kinds.index(kind) % COLOURS, name) for kind, name in (names or {}).items() if kind in kinds]
    key = "".join(f'<span class="c{colour}">{escaped(name)}</span>' for colour, name in marks)

    def draw(width: float) -> tuple[float, str]:
        height = min(460.0, width * 0.95)
        inside, drawn = frame(across, up, width, height)
        labels = _labels(dots, inside)
        return height, drawn + "".join(_point(dot, inside, kinds, labels[place]) for place, dot in enumerate(dots))

    return picture(title, draw, told, key=f'<p class="key">{key}</p>' if key else "")


def _labels(dots: Sequence[Dot], inside: Frame) -> dict[int, str]:
    """Place of a dot -> its label, of those whose label has a place."""
    taken = [(inside.x(d.x) - 9, inside.y(d.y) - 9, inside.x(d.x) + 9, inside.y(d.y) + 9) for d in dots]
    named = {n: (dot.label, inside.x(dot.x), inside.y(dot.y)) for n, dot in enumerate(dots) if dot.label}
    drawn = dict.fromkeys(range(len(dots)), "")
    # On a small picture a number in a point says more than a label far from it.
    small = inside.box[2] < NARROW
    farthest = [20 if small and dots[n].mark else DISTANCES[-1] for n in named]
    places = place_labels(list(named.values()), inside.box, taken, farthest)
    for (n, (label, x, y)), place in zip(named.items(), places, strict=True):
        if place is not None:
            far = abs(place[0] - x) > 12 or abs(place[1] - 4 - y) > 16
            line = f'<path class="lead" d="M{x:.1f} {y:.1f}L{place[0]:.1f} {place[1] - 4:.1f}"/>' if far else ""
            drawn[n] = line + text(label, *place)
    return drawn


def _bars(dot: Dot, inside: Frame, kinds: Sequence[str]) -> str:
    x, y = inside.x(dot.x), inside.y(dot.y)
    drawn = ""
    if dot.x_interval:
        low, high = (inside.x(_within(value, inside.across)) for value in dot.x_interval)
        drawn += f'<path class="bar {_colour(dot, kinds)}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>'
    if dot.y_interval:
        low, high = (inside.y(_within(value, inside.up)) for value in dot.y_interval)
        drawn += f'<path class="bar {_colour(dot, kinds)}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
    return drawn


def _point(dot: Dot, inside: Frame, kinds: Sequence[str], label: str) -> str:
    x, y = inside.x(dot.x), inside.y(dot.y)
    size = 4.5 if not dot.mark else 8 if len(dot.mark) == 1 else 9.5
    inner = (
        f'<text class="mark" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escaped(dot.mark)}</text>'
        if dot.mark
        else ""
    )
    circle = f'<circle class="{_colour(dot, kinds)}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    told = f"<title>{escaped(dot.about or dot.label)}</title>{_bars(dot, inside, kinds)}{label}{circle}{inner}"
    chosen = "".join(f' data-{escaped(key)}="{escaped(value)}"' for key, value in dot.keys.items())
    return f'<g class="point" data-item{chosen}>{told}</g>'


def _colour(dot: Dot, kinds: Sequence[str]) -> str:
    return f"c{kinds.index(dot.kind) % COLOURS}" if dot.kind else "none"


def _within(value: float, axis: Axis) -> float:
    return min(axis.high, max(axis.low, value))
