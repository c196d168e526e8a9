"""Causal tracing as a picture: a heat map of blocks and classes of tokens for each kind of states."""

from __future__ import annotations

from pathlib import Path

from unierase_cli.results.one_run.trace_record import Trace
from unierase_cli.results.one_run.trace_tables import TITLES
from unierase_cli.results.pictures import save

COLOURS = {"residual": "Purples", "mlp": "Greens", "attention": "Reds"}


def draw(trace: Trace, path: Path, *, title: str) -> None:
    """Write a PNG: mean indirect effect on the probability of the answer's first token, as figure 2 of the paper has it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    kinds, positions = trace.kinds(), trace.positions()
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(1.8 + 4.2 * len(kinds), 3.4), dpi=120, sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        curves = [curve for name in positions if (curve := trace.curve(kind, name)) is not None]
        means = [curve.mean for curve in curves]
        image = axes.imshow(means, aspect="auto", cmap=COLOURS[kind], vmin=0.0, interpolation="nearest")
        axes.set_title(TITLES[kind].format(window=trace.window), fontsize=9)
        axes.set_xlabel("block" if kind == "residual" else "block at the window's centre", fontsize=9)
        axes.set_yticks(range(len(positions)), positions, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=axes).ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    save(figure, path)
