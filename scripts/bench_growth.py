"""Time and memory of UniErase's phases over the number of facts that it forgets at once.

    python -m scripts.bench_growth --tofu TOFU --csv scripts/results/growth.csv --picture scripts/growth.png \\
        experiment=tofu_mini model.path=MODEL token.targets=idk.jsonl run.threads=1

``--facts N`` forgets the last N rows of TOFU's ``full`` (40, 200 and 400 are forget01, forget05 and forget10), up to 3,200; the
others are retained. Each number is ``unierase erase`` in a process of its own, once; its manifests say how much
processor time and memory each phase took. CPU seconds, because other jobs disturb them less than wall time. Lines of other
numbers of facts that the csv file has stay in it, and the picture has them too; ``--facts ""`` only draws.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.timing import write_csv
from unierase_cli.results.pictures import save
from unierase_cli.store.artefacts import Store

# What the table calls a phase, its stage and its name there.
PHASES = {
    "moments": ("moments", "moments"),
    "token training": ("train_token", "train token"),
    "edit": ("erase", "edit"),
    "token refinement": ("erase", "refine token"),
}
SPLIT, SEED = "forget10", 0
# Phase -> (CPU seconds, peak MiB)
Costs = dict[str, tuple[float, float]]


def links(tofu: Path, facts: int, folder: Path) -> Path:
    """A folder like TOFU's whose forget set is the last rows of ``full``."""
    folder.mkdir()
    for path in tofu.glob("*.jsonl"):
        if not path.name.startswith(SPLIT):
            (folder / path.name).symlink_to(path.resolve())
    rows = (tofu / "full.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / f"{SPLIT}_perturbed.jsonl").write_text("".join(rows[-facts:]), "utf-8")
    return folder


def measured(tofu: Path, facts: int, words: Sequence[str]) -> Costs:
    """The costs of one run."""
    with tempfile.TemporaryDirectory() as place:
        outputs, data = Path(place, "outputs"), links(tofu, facts, Path(place, "tofu"))
        given = [*words, f"benchmark.split={SPLIT}", f"benchmark.data_dir={data}", f"run.outputs={outputs}", f"run.seed={SEED}"]
        subprocess.run([sys.executable, "-m", "unierase_cli", "erase", *given, "--json"], stdout=subprocess.DEVNULL, check=True)
        found = {artefact.stage: artefact.manifest["phases"] for artefact in Store(outputs).list()}
    return {
        name: (found[stage][phase]["cpu_seconds"], found[stage][phase]["peak_memory_mib"])
        for name, (stage, phase) in PHASES.items()
    }


def lines_of(found: dict[int, Costs]) -> list[list[str]]:
    """The table: a line for each number of facts."""
    headings = ["facts", *(f"{name} ({unit})" for name in PHASES for unit in ("s", "MiB"))]
    lines = [
        [str(facts), *(text for seconds, peak in costs.values() for text in (f"{seconds:.1f}", f"{peak:.0f}"))]
        for facts, costs in found.items()
    ]
    return [headings, *lines]


def draw(found: dict[int, Costs], path: Path) -> None:
    """Processor time and peak memory over the number of facts, a line for each phase with its name beside its end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from unierase_cli.results.point_labels import place_labels

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), dpi=110)
    facts = list(found)
    scales = {"processor time (s)": "log", "peak memory of the process (MiB)": "linear"}
    for place, (axes, (unit, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for index, name in enumerate(PHASES):
            values = [costs[name][place] for costs in found.values()]
            axes.plot(facts, values, marker="osD^"[index], markersize=5, color=f"C{index}")
            ends.append((name, facts[-1], values[-1], f"C{index}"))
        axes.set(xlabel="facts forgotten at once", ylabel=unit, xscale="log", yscale=scale)
        axes.set_xlim(0.8 * facts[0], 5 * facts[-1])
        axes.set_xticks(facts, [f"{number:,}" for number in facts], minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        if scale == "linear":
            axes.set_ylim(0, 1.15 * max(end[2] for end in ends))
        axes.grid(alpha=0.3)
        figure.canvas.draw()
        place_labels(axes, ends)
    figure.tight_layout()
    save(figure, path)


def lines_in(path: Path | None) -> dict[int, Costs]:
    """The lines of a csv file that this script wrote, if there is one."""
    if path is None or not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(line for line in file if not line.startswith("#"))
    return {
        int(facts): {name: (float(texts[2 * n]), float(texts[2 * n + 1])) for n, name in enumerate(PHASES)}
        for facts, *texts in lines
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tofu", type=Path, required=True, help="the folder with TOFU's files")
    parser.add_argument("--facts", default="40,100,200,400")
    parser.add_argument("--csv", type=Path, help="write the table to this file")
    parser.add_argument("--picture", type=Path, help="write the picture to this file")
    wanted, words = parser.parse_known_args()
    found, new = lines_in(wanted.csv), [int(text) for text in wanted.facts.split(",") if text]
    for facts in new:
        found[facts] = measured(wanted.tofu, facts, words)
        print("  ".join(lines_of({facts: found[facts]})[-1]), flush=True)
    found = dict(sorted(found.items()))
    if wanted.csv and new:
        write_csv(wanted.csv, "bench_growth", lines_of(found), SEED)
    if wanted.picture:
        draw(found, wanted.picture)


if __name__ == "__main__":
    main()
