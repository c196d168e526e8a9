"""Writes the result tables of the READMEs from the recorded numbers in ``scripts/results``.

    python scripts/tables.py            # between the markers of README.md and scripts/README.md
    python scripts/tables.py --check    # writes nothing; exit code 1 if a table differs

A file starts with comments (``# command: ...``, ``# commit: ...``), followed by a line of headings and the cells as
printed. A README shows it between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
RESULTS = SCRIPTS / "results"
TEXTS = (SCRIPTS.parent / "README.md", SCRIPTS / "README.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Tables with only some lines of a file: name -> (file, first cells of the lines).
PARTS = {
    "headline": (
        "methods",
        (
            "unedited model",
            "retain-only model",
            "**unierase**",
            "unierase_deep",
            "idk_ap",
            "dpo_gd",
            "me_gd",
            "npo_gd",
        ),
    ),
    "smollm2-headline": ("smollm2-methods", ("unedited", "**unierase**", "idk_ap", "me_gd", "npo_gd")),
}


def read(name: str) -> list[list[str]]:
    """The headings and lines of a file."""
    text = (RESULTS / f"{name}.csv").read_text("utf-8")
    return list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))


def table(name: str) -> str:
    """A file, or part of it, as a Markdown table with right-aligned numbers."""
    file, wanted = PARTS.get(name, (name, ()))
    headings, *lines = read(file)
    if wanted:
        by_name = {line[0]: line for line in lines}
        lines = [by_name[first] for first in wanted]
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *lines))


def filled(text: str) -> str:
    """The text with all marked tables rewritten."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", text)


def main() -> int:
    changed = [path for path in TEXTS if filled(path.read_text("utf-8")) != path.read_text("utf-8")]
    for path in changed:
        if "--check" in sys.argv:
            print(f"{path}: a table differs from scripts/results")
        else:
            path.write_text(filled(path.read_text("utf-8")), "utf-8")
    return int("--check" in sys.argv and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
