"""The trade-off between forgetting and retention over the edit's strength: a table and a picture.

    python scripts/tradeoff.py PICTURE.png --vary edit.alpha=0.3,1,3 --vary edit.values.clamp=0.5,1 -- \\
        experiment=tofu_mini benchmark.split=forget10 model.path=... benchmark.data_dir=...

Each ``--vary KEY=A,B,C`` is varied on its own around the defaults. Every point is ``unierase eval ... --json``: finished ones
are reused, so an interrupted sweep goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from unierase_cli.stages.pictures import Point, forgetting_against_retention

COLUMNS = ("forget.rouge", "retain_unseen.rouge", "retain_near.rouge", "forget.unlearn_forbidden.leak")


def evaluate(words: list[str]) -> dict[str, dict]:
    """The rows of one run's table by their id."""
    command = [sys.executable, "-m", "unierase_cli", "eval", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return {row["id"]: row for row in json.loads(done.stdout)["metrics"]}


def tell(name: str, rows: dict[str, dict], model: str) -> None:
    """One line of the table; what was not measured (a split left out of ``eval.splits``) stays empty."""
    values = [rows[column][model] if column in rows else None for column in COLUMNS]
    print(f"| {name} | " + " | ".join("" if value is None else f"{value:.3f}" for value in values) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=A,B,C")
    wanted, words = parser.parse_known_args()
    words = [word for word in words if word != "--"]
    settings = [""]
    for vary in wanted.vary:
        key, _, values = vary.partition("=")
        settings += [f"{key}={value}" for value in values.split(",")]
    points = []
    print("| setting | forget | retain, never seen | neighbours | [UNL] forbidden |\n|---|---:|---:|---:|---:|")
    for setting in settings:
        rows = evaluate([*words, *([setting] if setting else [])])
        if not setting:
            tell("unedited", rows, "base")
            points.append(Point("unedited", rows[COLUMNS[0]]["base"], rows[COLUMNS[1]]["base"]))
        tell(setting or "defaults", rows, "edited")
        forget, retain = rows[COLUMNS[0]], rows[COLUMNS[1]]
        points.append(Point(setting or "defaults", forget["edited"], retain["edited"], forget["ci"], retain["ci"]))
    forgetting_against_retention(points, wanted.picture, title="forgetting against retention")


if __name__ == "__main__":
    main()
