"""Places text beside the points of a picture so that no label covers another label or a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

# Directions to try in order of preference, and distances from the point in typographic points.
DIRECTIONS = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 2), (1, -2), (-1, 2), (-1, -2))
DISTANCES = (9, 18, 30, 45, 64, 90, 120, 155)


Box = tuple[float, float, float, float]


def place_labels(
    axes: Any, texts: Sequence[tuple[str, float, float, Any]], *, obstacles: Sequence[Box] = ()
) -> None:
    """Annotate ``texts`` (label, x, y, colour) on matplotlib ``axes`` whose limits are final.

    Greedy, from top to bottom: each label takes the first free place inside the axes (else the last one tried). A thin
    line connects every label that is not right beside its point. ``obstacles``: (left, bottom, right, top) in data
    coordinates.
    """
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    around = 6 * figure.dpi / 72
    places = [axes.transData.transform((x, y)) for _, x, y, _ in texts]
    taken: list[Box] = [(x - around, y - around, x + around, y + around) for x, y in places]
    for left, bottom, right, top in obstacles:
        (x0, y0), (x1, y1) = axes.transData.transform(((left, bottom), (right, top)))
        taken.append((x0 - 2, y0 - 2, x1 + 2, y1 + 2))
    for index in sorted(range(len(texts)), key=lambda i: (-places[i][1], places[i][0])):
        text, x, y, colour = texts[index]
        note = axes.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8, color=colour, zorder=4,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        for distance, (right, up) in ((d, direction) for d in DISTANCES for direction in DIRECTIONS):
            note.set_position((right * distance, up * distance * 0.8))
            note.set_ha({1: "left", 0: "center", -1: "right"}[right])
            note.set_va("center" if up == 0 else "bottom" if up > 0 else "top")
            note.arrow_patch.set_visible((distance, right, up) != (DISTANCES[0], 1, 0))
            box = _text_box(note, renderer)
            if _inside(box, frame) and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)


def _text_box(note: Any, renderer: Any) -> Box:
    """The extent of the text without the annotation's line."""
    from matplotlib.text import Text

    note.update_positions(renderer)
    box = Text.get_window_extent(note, renderer)
    return box.x0, box.y0, box.x1, box.y1


def _inside(box: Sequence[float], frame: Any) -> bool:
    return box[0] >= frame.x0 and box[2] <= frame.x1 and box[1] >= frame.y0 and box[3] <= frame.y1


def _overlap(one: Sequence[float], other: Iterable[float]) -> bool:
    left, bottom, right, top = other
    return one[0] < right and one[2] > left and one[1] < top and one[3] > bottom
