"""The picture of a trajectory: ROUGE-L recall after every step, of what was forgotten and of what should be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unierase_cli.metrics.scores import Trajectory
from unierase_cli.results.pictures import save

# (column, name, colour, marker); solid lines for what is to be forgotten, dashed lines for what is to be kept.
FORGOTTEN = (
    ("forget_now.rouge", "this step's request", "C3", "o"),
    ("forget_before.rouge", "earlier requests", "C1", "s"),
    ("forget_so_far.rouge", "all requests so far", "C5", "D"),
)
KEPT = (
    ("retain_unseen.rouge", "retain, never seen", "C0", "^"),
    ("real_authors.rouge", "real authors", "C2", "v"),
    ("world_facts.rouge", "world facts", "C4", "P"),
)


def draw(found: Trajectory, path: Path, *, title: str) -> None:
    """Write a PNG of ``steps.json``: two panels over the steps, with the unedited model at 0 and 95 % intervals as bands."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 4.4), dpi=120, sharex=True, sharey=True)
    for axes, curves, dashes, name in ((panels[0], FORGOTTEN, "-", "forgotten (low)"), (panels[1], KEPT, "--", "kept (high)")):
        for column, label, colour, marker in curves:
            _curve(axes, found, column, label, colour, marker, dashes)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("requests served")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.set_ylim(-0.03, 1.03)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="best")
    panels[0].set_ylabel("ROUGE-L recall")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    save(figure, path)


def points_of(found: Trajectory, column: str) -> list[tuple[int, float, tuple[float, float] | None]]:
    """(step, value, interval) of a column after every step that has it; step 0 is the unedited model."""
    points = [(0, found.before.get(column)), *((step.step, step.measures.get(column)) for step in found.steps)]
    return [(step, m.value, m.ci95) for step, m in points if m is not None and m.value is not None]


def _curve(axes: Any, found: Trajectory, column: str, label: str, colour: str, marker: str, dashes: str) -> None:
    known = points_of(found, column)
    if not known:
        return
    places, values = [x for x, *_ in known], [value for _, value, _ in known]
    axes.plot(places, values, color=colour, marker=marker, markersize=5, linewidth=1.4, linestyle=dashes, label=label)
    bands = [(x, *interval) for x, _, interval in known if interval]
    if len(bands) > 1:
        x, low, high = zip(*bands, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
