"""Measures the analogues of Reveal-and-Release's tasks: release on what a model reveals, and a baseline on the true rows.

    python -m scripts.analogues FOLDER --csv scripts/results/analogues.csv
    python -m scripts.analogues FOLDER --tasks skill --release unlearn.lr=4e-3

A small model learns each task on the spot. FOLDER gets, for each task, ``targets.txt`` (the description of what is to be
forgotten), ``kept.jsonl`` (the rows that methods may see to be kept; with these alone ``unierase reveal`` goes to work) and
the outputs. Every step is a command, which is printed; finished ones are reused.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.timing import write_csv
from unierase_cli.benchmarks.analogue import TASKS
from unierase_cli.config.compose import compose
from unierase_cli.pipeline.study import study_of
from unierase_cli.store.jsonl import write_jsonl

RELEASE = ["method=release", "adapter=lora"]
BASELINE = ["method=idk_ap"]
# Task -> the metrics of what is forgotten and of what is kept. Each has two splits: learned inputs and new ones.
SCORES = {
    "style": ("rude_words", "polite_register"), "entities": ("f1_persons", "f1_places"), "skill": ("exact_answer", "exact_answer"),
}  # fmt: skip
SPLITS = (("forget", "forget_eval"), ("retain_protected", "retain_unseen"))
HEADINGS = ["analogue", "forgotten ↓", "forgotten, new inputs ↓", "kept ↑", "kept, new inputs ↑"]


def unierase(*words: str) -> dict[str, Any]:
    """What the command prints with ``--json``."""
    print("unierase", shlex.join(words), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "unierase_cli", *words, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def measured(task: str, folder: Path, release: Sequence[str], baseline: Sequence[str], more: Sequence[str]) -> list[list[str]]:
    """The task's three lines."""
    folder.mkdir(parents=True, exist_ok=True)
    own = ["experiment=demo", f"benchmark.split={task}", f"run.outputs={folder / 'outputs'}", *more]
    true = ["benchmark=analogue", *own]
    targets, kept = folder / "targets.txt", folder / "kept.jsonl"
    targets.write_text(f"{TASKS[task].forgotten}\n", "utf-8")
    facts = study_of(compose(true)).benchmark.protect
    write_jsonl(kept, [{"question": f.question, "answer": f.answer, "subject": f.subject} for f in facts])
    model = f"model.path={Path(unierase('finetune', *true)['path']) / 'model'}"
    about = [f"reveal.targets={targets}", "reveal.kind=topic", f"reveal.retain_path={kept}"]
    revealed = unierase("reveal", *own, model, *about)["path"]
    given = ["benchmark=revealed", f"benchmark.path={revealed}", "benchmark.gold=analogue"]
    first = scores(unierase("eval", *own, model, *given, *about, *RELEASE, *release))
    second = scores(unierase("eval", *true, model, *BASELINE, *baseline))
    columns = [f"{split}.{metric}" for metric, splits in zip(SCORES[task], SPLITS, strict=True) for split in splits]
    lines = {"unedited": ("base", first), "release, revealed rows": ("edited", first), "idk_ap, true rows": ("edited", second)}
    return [
        [f"{task}: {name}", *(f"{found[column][state]:.3f}" for column in columns)] for name, (state, found) in lines.items()
    ]


def scores(printed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Column -> its row of the table."""
    return {row["id"]: row for row in printed["metrics"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--release", default="", help="settings of release alone, e.g. unlearn.lr=8e-3")
    parser.add_argument("--baseline", default="", help="settings of the baseline alone")
    parser.add_argument("--csv", type=Path)
    wanted, words = parser.parse_known_args()
    lines = []
    for task in wanted.tasks.split(","):
        found = measured(task, wanted.folder / task, wanted.release.split(), wanted.baseline.split(), words)
        for line in found:
            print(" | ".join(line), flush=True)
        lines += found
    if wanted.csv is not None:
        write_csv(wanted.csv, "analogues", [HEADINGS, *lines])


if __name__ == "__main__":
    main()
