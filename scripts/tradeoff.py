"""The trade-off between forgetting and retention over the edit's strength: a table and a picture.

    python scripts/tradeoff.py PICTURE.png --vary edit.alpha=0.3,1,3 --vary edit.values.clamp=0.5,1 -- \\
        experiment=tofu_mini benchmark.split=forget10 model.path=... benchmark.data_dir=...

Each ``--vary KEY=A,B,C`` is varied separately around the defaults. Every point is ``unierase eval ... --json``:
finished runs are reused, so an interrupted call resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

Labelled = tuple[str, float, float]
COLUMNS = ("forget.rouge", "retain_unseen.rouge", "retain_near.rouge", "forget.unlearn_forbidden.leak")


def evaluate(words: list[str]) -> dict[str, dict]:
    """The rows of a run's table by id."""
    command = [sys.executable, "-m", "unierase_cli", "eval", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return {row["id"]: row for row in json.loads(done.stdout)["metrics"]}


def tell(name: str, rows: dict[str, dict], model: str) -> None:
    """Print one line of the table; values that were not measured (splits not in ``eval.splits``) are empty."""
    values = [rows[column][model] if column in rows else None for column in COLUMNS]
    print(f"| {name} | " + " | ".join("" if value is None else f"{value:.3f}" for value in values) + " |", flush=True)


def position(rows: dict[str, dict], model: str) -> tuple[float, float]:
    """Forget and never-seen retain ROUGE-L recall of a model."""
    return rows[COLUMNS[0]][model], rows[COLUMNS[1]][model]


def draw(
    unedited: tuple[float, float], defaults: tuple[float, float], curves: dict[str, list[Labelled]], path: Path
) -> None:
    """One curve per setting with its values in order, together with the unedited model and the defaults."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5.5), layout="constrained")
    axes.scatter(*unedited, marker="o", s=70, color="black", label="unedited", zorder=3)
    axes.scatter(*defaults, marker="*", s=180, color="black", label="defaults", zorder=3)
    for (key, points), marker in zip(curves.items(), "osD^vP", strict=False):
        line = axes.plot([p[1] for p in points], [p[2] for p in points], marker=marker, alpha=0.8, label=key)[0]
        for number, (value, x, y) in enumerate(points):
            side = (6, 4) if number % 2 else (6, -10)
            axes.annotate(value, (x, y), textcoords="offset points", xytext=side, fontsize=8, color=line.get_color())
    axes.set(xlabel="forget set: ROUGE-L recall (lower is better)", ylabel="retain, never seen: ROUGE-L recall (higher is better)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=A,B,C")
    wanted, words = parser.parse_known_args()
    words = [word for word in words if word != "--"]
    print("| setting | forget | retain, never seen | neighbours | [UNL] forbidden |\n|---|---:|---:|---:|---:|")
    rows = evaluate(words)
    tell("unedited", rows, "base")
    tell("defaults", rows, "edited")
    unedited, defaults = position(rows, "base"), position(rows, "edited")
    curves: dict[str, list[Labelled]] = {}
    for vary in wanted.vary:
        key, _, values = vary.partition("=")
        for value in values.split(","):
            rows = evaluate([*words, f"{key}={value}"])
            tell(f"{key}={value}", rows, "edited")
            curves.setdefault(key, []).append((value, *position(rows, "edited")))
    draw(unedited, defaults, curves, wanted.picture)


if __name__ == "__main__":
    main()
