"""A fair comparison in two commands: tune every method's settings on tuning rows, then run all methods on the reported rows.

    python scripts/compare.py tune  scripts/compare-tofu-mini.json tune01 CHOSEN.json -- experiment=tofu_mini model.path=...
    python scripts/compare.py final CHOSEN.json forget01 --seeds 0,1,2 -- experiment=tofu_mini model.path=...
    unierase report 'score/tofu-forget01*' --outputs outputs

The file lists entries with ``words`` (method=... and related words) and ``grid`` (lists of words, one list per
setting). An entry with ``like`` uses another entry's setting. The setting with the highest balance on the tuning split
is chosen: the harmonic mean of forgetting, 1 - forget / unedited, and of never-seen retention, retain / unedited, both
ROUGE-L recall, clipped to 0..1. Every run is ``unierase eval``: finished runs are reused, so an interrupted comparison
resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from unierase_cli.results.many_runs import rows as comparison_rows
from unierase_cli.results.many_runs.rows import FORGET, KEPT
from unierase_cli.store.json_text import write_json

# The evaluation for tuning: the two numbers of the balance.
TUNING = ["eval=quick"]


def evaluate(words: list[str]) -> dict[str, dict] | None:
    """The rows of a run's table by id; None if the run failed (its message is on the terminal)."""
    command = [sys.executable, "-m", "unierase_cli", "eval", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else {row["id"]: row for row in json.loads(done.stdout)["metrics"]}


def balance(rows: dict[str, dict]) -> float:
    """The balance described in the module's docstring."""
    before, after = ([rows[column][state] for column in (FORGET, KEPT)] for state in ("base", "edited"))
    return comparison_rows.balance(before, after).value or 0.0


def tune(entries: list[dict], split: str, rows: int, words: list[str]) -> list[dict]:
    """Each entry with ``chosen``, its best setting, and ``tried``, the balance of every setting on ``rows`` rows per split."""
    for entry in entries:
        tried = []
        for setting in entry.get("grid", []):
            asked = [*TUNING, f"benchmark.split={split}", f"benchmark.rows={rows}"]
            table = evaluate([*words, *asked, *entry["words"], *setting])
            found = None if table is None else round(balance(table), 4)
            tried.append({"setting": setting, "balance": found})
            told = "failed" if table is None else f"balance {found}, forget {table['forget.rouge']['edited']:.3f}"
            print(" ".join([*entry["words"], *setting]), "->", told, flush=True)
        if tried and all(t["balance"] is None for t in tried):
            sys.exit(f"every setting of {' '.join(entry['words'])} failed")
        best = max(tried, key=lambda t: -1.0 if t["balance"] is None else t["balance"], default={"setting": []})
        entry |= {"tried": tried, "chosen": best["setting"]}
    chosen = {entry["words"][0]: entry["chosen"] for entry in entries if entry.get("grid")}
    for entry in entries:
        if "like" in entry:
            entry["chosen"] = chosen[entry["like"]]
    return entries


def final(entries: list[dict], split: str, seeds: list[str], words: list[str]) -> None:
    """Run every entry with its chosen setting on the reported rows, seed by seed."""
    failed = 0
    for seed in seeds:
        for entry in entries:
            run = [*words, f"benchmark.split={split}", *entry["words"], *entry["chosen"], f"run.seed={seed}"]
            rows = evaluate(run)
            told = "failed" if rows is None else f"balance {balance(rows):.3f}"
            failed += rows is None
            print(f"seed {seed}:", " ".join([*entry["words"], *entry["chosen"]]), "->", told, flush=True)
    if failed:
        sys.exit(f"{failed} runs failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tuning = commands.add_parser("tune")
    tuning.add_argument("entries", type=Path)
    tuning.add_argument("split")
    tuning.add_argument("chosen", type=Path)
    tuning.add_argument("--rows", type=int, default=100, help="maximum rows per split, forget set included; 0: all")
    finals = commands.add_parser("final")
    finals.add_argument("entries", type=Path)
    finals.add_argument("split")
    finals.add_argument("--seeds", default="0")
    wanted, words = parser.parse_known_args()
    words = [word for word in words if word != "--"]
    entries = json.loads(wanted.entries.read_text("utf-8"))
    if wanted.command == "tune":
        write_json(wanted.chosen, tune(entries, wanted.split, wanted.rows, words))
    elif without := [" ".join(entry["words"]) for entry in entries if "chosen" not in entry]:
        sys.exit(f"{wanted.entries}: {without[0]} has no chosen setting; `tune` writes such a file")
    else:
        final(entries, wanted.split, wanted.seeds.split(","), words)


if __name__ == "__main__":
    main()
