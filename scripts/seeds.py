"""Mean and standard deviation of the headline over seeds: ``python scripts/seeds.py 0,1,2 experiment=demo``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    seeds, words = sys.argv[1].split(","), sys.argv[2:]
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        command = [sys.executable, "-m", "unierase_cli", "eval", *words, f"run.seed={seed}", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)
        for row in json.loads(done.stdout)["metrics"]:
            for state in ("base", "edited", "difference"):
                if row[state] is not None:
                    found.setdefault(row["name"], {}).setdefault(state, []).append(row[state])
    print(f"| {len(seeds)} seeds, mean ± sd | before | after | change |\n|---|---:|---:|---:|")
    for name, states in found.items():
        print(f"| {name} | " + " | ".join(spread(states.get(s, [])) for s in ("base", "edited", "difference")) + " |")


def spread(values: list[float]) -> str:
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
