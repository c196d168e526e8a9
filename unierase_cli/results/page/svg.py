"""What pictures share: a frame with two axes, and places for labels that cover nothing. Units are pixels of the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from unierase_cli.results.page.document import escaped

# Widths of a picture on a phone and on a screen; the style shows one of them. Text is as large in both.
NARROW, WIDE = 340, 720
TEXT = 12
# Mean width of a letter.
LETTER = 0.56 * TEXT
Box = tuple[float, float, float, float]
# Where a label may be beside a point: to the right, to the left, above, below; then farther away.
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
DISTANCES = (10, 20, 34, 52)


@dataclass(frozen=True)
class Axis:
    """``low`` to ``high`` are shown. ``whole``: whether that is all that the number can be; ``counted``: whole numbers."""

    title: str
    low: float = 0.0
    high: float = 1.0
    whole: bool = True
    counted: bool = False

    def ticks(self) -> list[float]:
        """Four to six round numbers inside the axis."""
        size = self.high - self.low
        step = next(
            (
                s
                for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)
                if size / s <= 5.01 and (s >= 1 or not self.counted)
            ),
            size / 4,
        )
        first = -(-self.low // step)
        return [(first + n) * step for n in range(int(size / step) + 2) if (first + n) * step <= self.high + 1e-9]


@dataclass(frozen=True)
class Frame:
    """The inside of the axes in pixels, and where a value is on it."""

    across: Axis
    up: Axis
    box: Box

    def x(self, value: float) -> float:
        left, _, right, _ = self.box
        return left + (right - left) * (value - self.across.low) / (self.across.high - self.across.low)

    def y(self, value: float) -> float:
        _, top, _, bottom = self.box
        return bottom - (bottom - top) * (value - self.up.low) / (self.up.high - self.up.low)


def picture(
    title: str,
    draw: Callable[[float], tuple[float, str]],
    notes: Sequence[str] = (),
    wide: float = WIDE,
    key: str = "",
) -> str:
    """A figure in two widths. ``draw``: width -> (height, SVG); ``notes``: below; ``wide``: on a screen; ``key``: HTML above."""
    drawn = ""
    for name, width in (("narrow", NARROW), ("wide", wide)):
        height, body = draw(width)
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        drawn += f'<svg class="{name}" role="img" aria-label="{escaped(title)}" {size}>{body}</svg>'
    told = "".join(f'<p class="note">{escaped(note)}</p>' for note in notes if note)
    return f'<figure class="picture"><figcaption>{escaped(title)}</figcaption>{key}{drawn}{told}</figure>'


def frame(across: Axis, up: Axis, width: float, height: float, right: float = 12) -> tuple[Frame, str]:
    """A frame with its axes drawn. ``right``: room beside it for labels."""
    found = Frame(across, up, (44, 26, width - right, height - 40))
    left, top, end, bottom = found.box
    parts = [f'<rect class="ground" x="{left:g}" y="{top:g}" width="{end - left:g}" height="{bottom - top:g}"/>']
    for tick in across.ticks():
        x = found.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {top:g}V{bottom:g}"/>')
        parts.append(text(f"{tick:g}" if abs(tick) > 1e-9 else "0", x, bottom + 15, "middle", "soft"))
    for tick in up.ticks():
        y = found.y(tick)
        parts.append(f'<path class="grid" d="M{left:g} {y:.1f}H{end:g}"/>')
        parts.append(text(f"{tick:.4g}" if abs(tick) > 1e-9 else "0", left - 6, y + 4, "end", "soft"))
    parts.append(text(across.title, (left + end) / 2, height - 6, "middle", "soft"))
    parts.append(text(f"↑ {up.title}", 2, 14, "start", "soft"))
    return found, "".join(parts)


def text(said: str, x: float, y: float, anchor: str = "start", kind: str = "") -> str:
    """A text at a place; ``anchor``: start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(said)}</text>'


def place_labels(
    labels: Sequence[tuple[str, float, float]], box: Box, taken: Iterable[Box], farthest: Sequence[float]
) -> list[tuple[float, float, str] | None]:
    """For each label (text, x, y of its point) the place and anchor of its text; None where every place would cover something.

    ``farthest``: pixels from its point, of each.
    """
    covered = [*taken, *((x - 7, y - 7, x + 7, y + 7) for _, x, y in labels)]
    found: list[tuple[float, float, str] | None] = []
    for (said, x, y), limit in zip(labels, farthest, strict=True):
        width = LETTER * len(said)
        chosen = None
        for distance in (d for d in DISTANCES if d <= limit):
            for right, down in DIRECTIONS:
                anchor = {1: "start", 0: "middle", -1: "end"}[right]
                at_x, at_y = x + right * distance, y + 4 + down * (distance + 4) * 0.9
                left = at_x - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
                spot = (left, at_y - TEXT, left + width, at_y + 3)
                inside = box[0] <= spot[0] and spot[2] <= box[2] and box[1] <= spot[1] and spot[3] <= box[3]
                if inside and not any(_overlap(spot, other) for other in covered):
                    chosen = (at_x, at_y, anchor)
                    covered.append(spot)
                    break
            if chosen:
                break
        found.append(chosen)
    return found


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and one[2] > other[0] and one[1] < other[3] and one[3] > other[1]
