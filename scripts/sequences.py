"""Compares methods over a sequence of requests: a table and a picture of forgetting and retention after each step.

    python scripts/sequences.py PICTURE.png outputs/trajectory/*forget10*/v*

Each folder is a ``trajectory`` artefact made by ``unierase eval --mode sequential``. The Markdown table has, for the
steps given by ``--steps``, ROUGE-L recall of all requests so far and of never-seen questions, and the balance of the
two after the last step, by which the runs are sorted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unierase_cli.results.many_runs.labels import configuration, labelled
from unierase_cli.results.many_runs.rows import balance

FORGET, KEPT = "forget_so_far.rouge", "retain_unseen.rouge"


def labels(folders: Sequence[Path]) -> list[str]:
    """For each run its method, and the settings that distinguish it from the other runs of its method."""
    configs = [json.loads((folder / "manifest.json").read_text("utf-8"))["config"] for folder in folders]
    methods = [config["method"]["name"] for config in configs]
    found = {}
    for name in set(methods):
        own = [configuration(config) for config in configs if config["method"]["name"] == name]
        found[name] = iter(labelled(name, own)[0])
    return [next(found[name]) for name in methods]


def curve(found: dict[str, Any], column: str) -> list[float]:
    """The column's value before the first step and after each step."""
    return [found["before"][column]["value"], *(step["measures"][column]["value"] for step in found["steps"])]


def last_balance(found: dict[str, Any]) -> float:
    """The balance after the last step."""
    curves = [curve(found, column) for column in (FORGET, KEPT)]
    return balance([values[0] for values in curves], [values[-1] for values in curves]).value or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--steps", default="0,1,2,5,10", help="comma-separated; 0 is the unedited model")
    wanted = parser.parse_args()
    found = [json.loads((folder / "steps.json").read_text("utf-8")) for folder in wanted.folders]
    runs = dict(zip(labels(wanted.folders), found, strict=True))
    runs = dict(sorted(runs.items(), key=lambda item: -last_balance(item[1])))
    steps = [int(step) for step in wanted.steps.split(",")]
    print("| after request | " + " | ".join(map(str, steps)) + " | balance |")
    print("|---|" + "---:|" * (len(steps) + 1))
    for name, found in runs.items():
        cells = [" / ".join(f"{curve(found, column)[step]:.3f}" for column in (FORGET, KEPT)) for step in steps]
        print(f"| {name} | " + " | ".join(cells) + f" | {last_balance(found):.3f} |")
    draw(runs, wanted.picture)


def draw(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Two panels with one line per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9.6, 5.0), dpi=110, sharex=True, sharey=True)
    titles = {FORGET: "all requests so far (low is forgotten)", KEPT: "never seen (high is kept)"}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for place, (name, found) in enumerate(runs.items()):
            values, style = curve(found, column), {"color": f"C{place % 10}", "linestyle": "-" if place < 10 else "--"}
            axes.plot(range(len(values)), values, marker="os^vDPX*<>"[place % 10], markersize=4, label=name, **style)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("requests served")
        axes.grid(alpha=0.3)
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("ROUGE-L recall")
    lines = -(-len(runs) // 4)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.02 + 0.035 * lines, 1, 1))
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
