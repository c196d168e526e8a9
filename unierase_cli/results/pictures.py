"""The report's pictures: forgetting against retention, and the losses of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unierase_cli.store.whole import whole


@dataclass(frozen=True)
class Point:
    """A model state; ``forget`` and ``retain``: ROUGE-L recall in [0, 1]; the intervals may be None.

    In a picture with labelled points, points of one ``kind`` share colour and marker ("" is an unedited model), and
    ``mark`` is shown beside the point if the labels are too long.
    """

    label: str
    forget: float
    retain: float
    forget_interval: tuple[float, float] | None = None
    retain_interval: tuple[float, float] | None = None
    kind: str = ""
    mark: str = ""


@dataclass(frozen=True)
class GroupPoint:
    """A group of retained questions: its similarity to what was forgotten and its mean change; ``label``: only if it is named."""

    likeness: float
    change: float
    kind: str
    label: str = ""


MARKERS = "osD^vP*X<>"
# Longest label in characters that may be placed beside a point.
BESIDE = 30


def forgetting_against_retention(points: Sequence[Point], path: Path, *, title: str) -> None:
    """Write a PNG: forget-set ROUGE-L recall (left is forgotten) against retention (up is kept).

    The best corner is the upper left.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.8), dpi=120)
    for index, point in enumerate(points):
        axes.errorbar(
            point.forget,
            point.retain,
            xerr=_error(point.forget, point.forget_interval),
            yerr=_error(point.retain, point.retain_interval),
            marker=MARKERS[index % len(MARKERS)],
            markersize=8,
            capsize=3,
            linestyle="none",
            label=point.label,
            zorder=2,
        )
    low = min([p.retain for p in points] + [1.0])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(max(-0.03, low - 0.1), 1.03)
    _name_axes(axes, title)
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    save(figure, path)


def labelled_points(points: Sequence[Point], path: Path, *, title: str) -> None:
    """Write a PNG of many models on the same axes, each point with its label beside it; references are grey.

    If a label is too long, points get their marks, and the labels are listed below the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from unierase_cli.results.point_labels import place_labels

    kinds = list(dict.fromkeys(point.kind for point in points if point.kind))
    marked = [point for point in points if point.mark] if max(len(point.label) for point in points) > BESIDE else []
    below = 0.2 * len(marked)
    figure, axes = pyplot.subplots(figsize=(9, 6 + below), dpi=120)
    texts = []
    for point in points:
        index = kinds.index(point.kind) if point.kind else 0
        colour = f"C{index % 10}" if point.kind else "0.35"
        axes.errorbar(
            point.forget,
            point.retain,
            xerr=_error(point.forget, point.forget_interval),
            yerr=_error(point.retain, point.retain_interval),
            marker=MARKERS[index % len(MARKERS)] if point.kind else "h",
            markersize=7,
            capsize=3,
            elinewidth=0.8,
            linestyle="none",
            color=colour,
            zorder=2,
        )
        texts.append((point.mark if point in marked else point.label, point.forget, point.retain, colour))
    _fit(axes, points)
    _name_axes(axes, title)
    for line, point in enumerate(reversed(marked)):
        figure.text(0.02, (0.08 + 0.2 * line) / (6 + below), f"{point.mark}: {point.label}", fontsize=8)
    figure.tight_layout(rect=(0, below / (6 + below), 1, 1))
    figure.canvas.draw()
    bars = [(*p.forget_interval, p.retain, p.retain) for p in points if p.forget_interval]
    bars += [(p.forget, p.forget, *p.retain_interval) for p in points if p.retain_interval]
    place_labels(axes, texts, obstacles=[(left, low, right, high) for left, right, low, high in bars])
    save(figure, path)


def change_against_likeness(points: Sequence[GroupPoint], path: Path, *, title: str, note: str) -> None:
    """Write a PNG: each retained group's mean change (down is lost) against its similarity to the forgotten groups (right)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from unierase_cli.results.point_labels import place_labels

    figure, axes = pyplot.subplots(figsize=(7.6, 4.8), dpi=120)
    axes.axhline(0, color="0.6", linewidth=1, zorder=1)
    kinds = list(dict.fromkeys(sorted(point.kind for point in points)))
    for index, kind in enumerate(kinds):
        of_kind = [point for point in points if point.kind == kind]
        axes.scatter(
            [point.likeness for point in of_kind], [point.change for point in of_kind], s=32, alpha=0.75, linewidths=0,
            marker=MARKERS[index % len(MARKERS)], color=f"C{index % 10}", label=f"{kind} ({len(of_kind)})", zorder=2,
        )  # fmt: skip
    lowest, highest = min(point.change for point in points), max(point.change for point in points)
    room = max(0.15 * (highest - lowest), 0.02)
    axes.set_ylim(min(lowest, 0) - room, max(highest, 0) + room)
    axes.margins(x=0.12)
    axes.set_xlabel("similarity to the nearest forgotten group")
    axes.set_ylabel("change of ROUGE-L recall (down is lost)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    # Outside the axes, so that they cover no points.
    figure.text(0.02, 0.015, note, fontsize=8, color="0.35")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.07), ncols=len(kinds), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.canvas.draw()
    named = [(p.label, p.likeness, p.change, f"C{kinds.index(p.kind) % 10}") for p in points if p.label]
    # About the size of a marker, in data coordinates.
    right, up = (0.008 * (high - low) for low, high in (axes.get_xlim(), axes.get_ylim()))
    others = [(p.likeness - right, p.change - up, p.likeness + right, p.change + up) for p in points if not p.label]
    place_labels(axes, named, obstacles=others)
    save(figure, path)


def _fit(axes: Any, points: Sequence[Point]) -> None:
    """Set limits around the points with room for labels, so that close points can be told apart."""
    for values, limit in (([p.forget for p in points], axes.set_xlim), ([p.retain for p in points], axes.set_ylim)):
        low, high = min(values), max(values)
        room = max(0.12 * (high - low), 0.02)
        limit(max(-0.03, low - room), min(1.03, high + room))


def _name_axes(axes: Any, title: str) -> None:
    """Titles of the axes, once their limits are set: an axis that leaves out 0 says where it begins."""
    starts = [f", from {low:.2f}" if low > 0 else "" for low in (axes.get_xlim()[0], axes.get_ylim()[0])]
    axes.set_xlabel(f"forget set: ROUGE-L recall (lower is better{starts[0]})")
    axes.set_ylabel(f"retain, never seen: ROUGE-L recall (higher is better{starts[1]})")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.text(0.02, 0.97, "best", transform=axes.transAxes, va="top", color="0.5", fontsize=9)


def save(figure: Any, path: Path) -> None:
    """Write the PNG atomically."""
    from matplotlib import pyplot

    with whole(path) as temporary:
        # No software version, so that equal runs give equal files.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    pyplot.close(figure)


def _error(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
