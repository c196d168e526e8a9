"""The report's picture: how much is forgotten against how much is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """A model state. ``forget`` and ``retain``: ROUGE-L recall in [0, 1]; the intervals are 95 % and may be None."""

    label: str
    forget: float
    retain: float
    forget_interval: tuple[float, float] | None = None
    retain_interval: tuple[float, float] | None = None


MARKERS = "osD^vP*X<>"


def forgetting_against_retention(points: Sequence[Point], path: Path, *, title: str, joined: bool = False) -> None:
    """Write a PNG: forget-set ROUGE-L recall (left is forgotten) against retention (up is kept).

    The best corner is the upper left. ``joined`` draws a line through the points, for trade-off curves.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.8), dpi=120)
    if joined:
        axes.plot([p.forget for p in points], [p.retain for p in points], color="0.75", linewidth=1, zorder=1)
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
    axes.set_xlabel("forget set: ROUGE-L recall (lower is better)")
    axes.set_ylabel("retain, never seen: ROUGE-L recall (higher is better)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.text(0.02, 0.97, "best", transform=axes.transAxes, va="top", color="0.5", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, metadata={"Software": None})  # no version text: equal runs give equal files
    pyplot.close(figure)
    temporary.replace(path)


def _error(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
