"""The heat map of audits: which share of the forgotten facts each attack brings back, run beside run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from unierase_cli.audit.base import CLASSES, PLAIN
from unierase_cli.audit.findings import Audit, Finding
from unierase_cli.results.pictures import save

# Above this share the number on a cell is written in white.
DARK = 0.55
LONGEST = 24


def heat_map(audits: Sequence[Audit], path: Path) -> None:
    """Write a PNG: rows are attacks in their headline setting, columns runs, a cell is the share clipped to [0, 1].

    Hatched: no share is available. A dot: its interval touches 0. The last row is the recall on retained questions, which has a
    scale of its own and so no colour.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    attacks = rows_of(audits)
    height, width = len(attacks) + 1, len(audits)
    figure, axes = pyplot.subplots(figsize=(3.4 + 1.3 * max(width, 2), 1.7 + 0.42 * height), dpi=120)
    colours = matplotlib.colormaps["YlOrRd"]
    for column, audit in enumerate(audits):
        found = {finding.attack: finding for finding in audit.headlines()}
        for row, (attack, _) in enumerate(attacks):
            _cell(axes, column, row, found.get(attack), colours)
        told = "n/a" if audit.retained is None else f"{audit.retained:.2f}"
        axes.add_patch(pyplot.Rectangle((column, height - 1), 1, 1, facecolor="white", edgecolor="0.8"))
        axes.text(column + 0.5, height - 0.5, told, ha="center", va="center", fontsize=10)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axhline(height - 1, color="0.2", linewidth=1.2)
    axes.set_yticks([place + 0.5 for place in range(height)], [*(_label(*row) for row in attacks), "retain recall"])
    axes.set_xticks([place + 0.5 for place in range(width)], [fill(_short(audit.title), LONGEST) for audit in audits], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), colours)
    bar = figure.colorbar(scale, ax=axes, fraction=0.05, pad=0.03)
    bar.set_label("share that comes back", fontsize=9)
    figure.text(0.01, 0.01, "hatched: unavailable · dot: the interval touches 0", fontsize=8, color="0.35")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    save(figure, path)


def _cell(axes: Any, column: int, row: int, found: Finding | None, colours: Any) -> None:
    from matplotlib import pyplot

    if found is None or found.share is None:
        patch = pyplot.Rectangle((column, row), 1, 1, facecolor="0.92", edgecolor="0.7", hatch="////", linewidth=0.5)
        axes.add_patch(patch)
        return
    share = min(1.0, max(0.0, found.share))
    ink = "white" if share > DARK else "black"
    axes.add_patch(pyplot.Rectangle((column, row), 1, 1, facecolor=colours(share), edgecolor="white"))
    axes.text(column + 0.5, row + 0.5, f"{share:.2f}", ha="center", va="center", color=ink, fontsize=10)
    if found.share_ci is not None and found.share_ci[0] <= 0:
        axes.plot(column + 0.9, row + 0.25, marker=".", markersize=4, color=ink)


def rows_of(audits: Sequence[Audit]) -> list[tuple[str, str]]:
    """(attack, class) of every attack that a run has, plain questions first, then by class."""
    found = {finding.attack: finding.kind for audit in audits for finding in audit.headlines()}
    order = list(CLASSES)
    return sorted(found.items(), key=lambda row: (row[0] != PLAIN, order.index(row[1]), row[0]))


def _label(attack: str, kind: str) -> str:
    return "plain questions" if attack == PLAIN else f"{CLASSES[kind]}  {attack}"


def _short(title: str) -> str:
    return title.partition(",")[0]
