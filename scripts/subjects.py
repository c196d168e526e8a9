"""Measures how often the subject finder finds the annotated subject: ``python scripts/subjects.py FOLDER``, which has tofu/ etc.

The finder sees the questions grouped by person, without the annotations. For TOFU and the real people, rows whose
annotated subject is the name itself are also counted separately; the other annotations are a matter of taste ("the
author born in ...").
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unierase_cli.contracts import Fact
from unierase_cli.editing.subjects import find_subjects

Row = dict[str, Any]
FILES = {
    "tofu": ["full_subject"],
    "real_world": ["forget", "neighbor", "neighbor_perturbed"],
    "return": ["forget_train", "forget_eval", "retain_train", "retain_eval"],
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(
        "| benchmark | rows | agreed | rows with a name | agreed on the name | nothing found |\n|---|---:|---:|---:|---:|---:|"
    )
    for benchmark, files in FILES.items():
        rows = [row for name in files for row in read(Path(sys.argv[1]) / benchmark / f"{name}.jsonl")]
        found = find(rows)
        annotated = [(row, subject) for row, subject in zip(rows, found, strict=True) if row["subject"] is not None]
        named = [(row, subject) for row, subject in annotated if row["subject"] == person(row)]
        missing = sum(subject is None for subject in found) / len(found)
        print(
            f"| {benchmark} | {len(annotated)} | {share(annotated)} | {len(named)} | {share(named)} | {missing:.2%} |"
        )


def find(rows: Sequence[Row]) -> list[str | None]:
    """The finder's subjects without the annotations."""
    return find_subjects([Fact(str(n), row["question"], "x", group=group(row)) for n, row in enumerate(rows)])


def person(row: Row) -> str | None:
    """The person that a row is about: TOFU calls it author, others name. None for the one author without a name."""
    return row.get("author", row.get("name"))


def group(row: Row) -> str:
    return str(row["author_index"]) if "author_index" in row else str(row["name"])


def share(pairs: Sequence[tuple[Row, str | None]]) -> str:
    return f"{sum(row['subject'] == subject for row, subject in pairs) / max(1, len(pairs)):.2%}"


def read(path: Path) -> Iterator[Row]:
    if not path.exists():
        sys.exit(f"{path} does not exist")
    yield from map(json.loads, path.read_text("utf-8").splitlines())


if __name__ == "__main__":
    main()
