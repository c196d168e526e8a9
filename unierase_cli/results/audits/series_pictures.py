"""Pictures along a line: recall while models relearn, and depth by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.audit.series import Block, Curve, Point
from unierase_cli.results.pictures import save

# Panels beside each other.
ACROSS = 3
# Least distance between two names, as a share of the axis.
NAMES_APART = 0.08
# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = {"this model": "#0072B2", "control": "#666666", "unedited": "#D55E00"}


def relearning_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write a PNG, a panel for every setting: recall of facts that are not trained on, with 95 % bands, 0 being before training.

    Dotted: half of what the unedited model says before training.
    """
    figure, panels = _panels(len(curves), width=3.6)
    for axes, curve in zip(panels, curves, strict=False):
        _lines(axes, {"this model": curve.unlearned, "control": curve.control, "unedited": curve.ceiling}, (-0.02, 1.05))
        if curve.level is not None:
            axes.axhline(curve.level, color="0.6", linewidth=0.8, linestyle=":")
        axes.set_xlim(left=0)
        axes.set_xlabel(curve.unit, fontsize=8)
        axes.set_title(f"{curve.attack}\n{curve.setting}", fontsize=8)
    panels[0].set_ylabel("recall of the other facts", fontsize=8)
    figure.tight_layout()
    save(figure, path)


def depth_by_block(blocks: Sequence[Block], path: Path) -> None:
    """Write a PNG, a panel for every setting: nats per token that the unedited model loses with a block's states of the control and
    of this model. Where the lines meet, the block holds as little of the facts as the control's.
    """
    settings = list(dict.fromkeys((block.attack, block.setting) for block in blocks if block.lost is not None))
    figure, panels = _panels(len(settings), width=3.6)
    for axes, (attack, setting) in zip(panels, settings, strict=False):
        some = [block for block in blocks if (block.attack, block.setting) == (attack, setting)]
        values = {
            "control": [(block.block, block.lost_by_control) for block in some],
            "this model": [(block.block, block.lost) for block in some],
        }
        lines = {name: [Point(at, value) for at, value in of if value is not None] for name, of in values.items()}
        means = [point.mean for line in lines.values() for point in line]
        _lines(axes, lines, (min(0.0, *means), 1.08 * max(means)))
        axes.set_xticks([block.block for block in some])
        axes.set_xlabel("block", fontsize=8)
        axes.set_title(f"{attack}\n{setting}", fontsize=8)
    panels[0].set_ylabel("nats per token lost", fontsize=8)
    figure.tight_layout()
    save(figure, path)


def _panels(count: int, width: float) -> tuple[Any, list[Any]]:
    """A figure with so many panels, and no more."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    across = min(max(1, count), ACROSS)
    down = -(-count // across) or 1
    figure, axes = pyplot.subplots(down, across, figsize=(width * across, 2.9 * down), dpi=120, squeeze=False)
    panels = list(axes.flat)
    for unused in panels[max(1, count) :]:
        unused.set_visible(False)
    return figure, panels


def _lines(axes: Any, lines: Mapping[str, Sequence[Point]], limits: tuple[float, float]) -> None:
    """Lines with their bands, and their names at their ends, moved apart where they would cover each other."""
    apart = NAMES_APART * (limits[1] - limits[0])
    lowest = -float("inf")
    for name, points in sorted(lines.items(), key=lambda entry: entry[1][-1].mean if entry[1] else 0.0):
        if not points:
            continue
        colour = COLOURS[name]
        places, means = [point.at for point in points], [point.mean for point in points]
        axes.plot(places, means, color=colour, marker="o", markersize=3, linewidth=1.4)
        banded = [(point.at, *point.interval) for point in points if point.interval is not None]
        if banded:
            axes.fill_between(*zip(*banded, strict=True), color=colour, alpha=0.15, linewidth=0)
        lowest = max(lowest + apart, means[-1])
        where = {"textcoords": "offset points", "color": colour, "fontsize": 7, "va": "center"}
        axes.annotate(name, (places[-1], lowest), (5, 0), **where)
    axes.set_ylim(*limits)
    axes.margins(x=0.3)
    axes.tick_params(labelsize=7)
