"""The numbers that this project has recorded for its experiments, each with the band in which a repetition should lie.

The numbers are those of ``scripts/results/*.csv``, which the READMEs show; ``assets/expected.jsonl`` says which cell is which
metric. A cell with a spread over seeds gives the 95 % interval in which one more seed falls (Student's t with n - 1 degrees of
freedom, sd * sqrt(1 + 1/n)), but at least ``LEAST`` or one question. A cell of one seed gives ``ALONE`` or two questions.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unierase_cli.contracts import UserError
from unierase_cli.store.jsonl import read_asset

CELLS = "expected.jsonl"
LEAST, ALONE = 0.02, 0.05
CELL = re.compile(r"([-+]?\d*\.?\d+(?:e[-+]?\d+)?)(?: ± (\d*\.?\d+))?")
SEEDS = re.compile(r"(\d+) seeds")


@dataclass(frozen=True)
class Expected:
    """A recorded number: its metric's id and model state, the mean and its spread over ``seeds`` (0: one seed alone)."""

    metric: str
    state: str
    value: float
    spread: float | None
    seeds: int
    source: str

    def width(self, questions: int) -> tuple[float, str]:
        """Half of the band's width, and where it is from; ``questions``: number of answers averaged (0: an aggregate)."""
        one = 1 / questions if questions else 0.0
        if self.spread is None:
            return max(ALONE, 2 * one), "two questions" if 2 * one > ALONE else "one seed"
        from scipy.stats import t

        found = float(t.ppf(0.975, self.seeds - 1)) * self.spread * (1 + 1 / self.seeds) ** 0.5
        least = max(LEAST, one)
        return (found, f"{self.seeds} seeds") if found >= least else (least, "one question" if one > LEAST else "least")


@dataclass(frozen=True)
class Recorded:
    """What is recorded of an experiment: the words it was measured with, where from, on which versions, and the numbers."""

    experiment: str
    words: tuple[str, ...]
    origin: dict[str, dict[str, str]] = field(default_factory=dict)
    numbers: tuple[Expected, ...] = ()


def recorded_words(experiment: str) -> list[str]:
    """The words, besides those of the experiment, that its recorded numbers were measured with; UserError if there are none."""
    return [word for row in _rows(experiment) for word in row.get("words", [])]


def recorded(experiment: str, seed: int) -> Recorded:
    """The recorded numbers of an experiment; lines of single seeds only for the seed itself."""
    found: list[Expected] = []
    origin: dict[str, dict[str, str]] = {}
    for row in _rows(experiment):
        if "file" not in row:
            continue
        about, headings, lines = _read(row["file"])
        cells = lines.get(row["line"].format(seed=seed))
        if cells is None or about.get("seed", str(seed)) != str(seed):
            continue
        origin[row["file"]] = about
        seeds = SEEDS.search(cells[0]) or SEEDS.search(headings[0])
        for column, metric in row["columns"].items():
            shown = CELL.fullmatch(cells[headings.index(column)])
            if shown is None:
                raise ValueError(f"{row['file']}.csv, {cells[0]}, {column}: not a number")
            spread = None if shown[2] is None else float(shown[2])
            count = 0 if spread is None or seeds is None else int(seeds[1])
            found.append(Expected(metric, row["state"], float(shown[1]), spread, count, f"{row['file']}.csv"))
    return Recorded(experiment, tuple(recorded_words(experiment)), origin, tuple(found))


def check_seed(experiment: str, seed: int) -> None:
    """Raise UserError if no number of the experiment is recorded for this seed."""
    if not recorded(experiment, seed).numbers:
        raise UserError(f"no numbers are recorded for experiment={experiment} with seed {seed}", "run.seed=0")


def results_folder() -> Path:
    """``scripts/results`` of the source checkout that this package runs from, else the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    there = package.parent / "scripts" / "results"
    return there if (package.parent / "pyproject.toml").is_file() and there.is_dir() else package / "assets" / "results"


def _rows(experiment: str) -> list[dict[str, Any]]:
    rows = read_asset(CELLS)
    found = [row for row in rows if row["experiment"] == experiment]
    if not found:
        known = ", ".join(f"experiment={name}" for name in dict.fromkeys(row["experiment"] for row in rows))
        raise UserError(f"no numbers are recorded for experiment={experiment}", f"choose one of: {known}")
    return found


def _read(name: str) -> tuple[dict[str, str], list[str], dict[str, list[str]]]:
    """A file's comments by name, its headings, and its lines by their first cell."""
    text = (results_folder() / f"{name}.csv").read_text("utf-8").splitlines()
    said = (line.removeprefix("# ").partition(": ") for line in text if line.startswith("#"))
    headings, *lines = csv.reader(line for line in text if not line.startswith("#"))
    return {key: value for key, _, value in said}, headings, {line[0]: line for line in lines}
