"""Folders in the form of published benchmarks, a few rows each, with invented contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unierase_cli.config.sections.benchmark import BenchmarkConfig
from unierase_cli.store.jsonl import write_jsonl

Row = dict[str, Any]
PEOPLE = ("Ada Velour", "Bruno Okello", "Chiara Lund", "Dmitri Fonseca", "Edda Ness")
OTHERS = ("Gus Hollow", "Hanna Ide", "Ivo Jarre")
EDGES = {"A_B": "Aba SAS/Bebe Ltd", "A_C": "Aba SAS/Coco AG", "C_D": "Coco AG/Dodo NV", "D_F": "Dodo NV/Fifi BV"}
EDGES |= {"X_Y": "Xaxa SA/Yoyo LLC", "Z_W": "Zuzu SA/Wowo LLC"}


def config(name: str, folder: Path, **more: Any) -> BenchmarkConfig:
    """The benchmark with the settings of its yaml, read from a folder that this makes."""
    settings = {"lume": {"split": "all"}, "knowundo": {"split": "all"}, "pistol": {"split": "sample1", "groups": ["A_B"]}}
    settings |= {"birthdays": {"split": "forget10", "authors": 40, "holdout_authors": 4, "near_authors": 0}}
    if name in FOLDERS:
        more = {"data_dir": str(write(name, folder)), **more}
    return BenchmarkConfig(**{"name": name, "unknown_people": 4, "unseen_share": 0.5, "protected_scored": 3, **settings[name], **more})


def write(name: str, folder: Path) -> Path:
    """The files of a benchmark; returns the folder."""
    for file, rows in FOLDERS[name]().items():
        path = folder / f"{file}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, rows)
    return folder


def knowundo() -> dict[str, list[Row]]:
    private, public = ("Where does {} live?", "Who are {}'s parents?"), ("What does {} write?", "Which prize did {} win?")

    def rows(question: str, answer: str) -> list[Row]:
        return [{"question": question.format(name), "answer": f"{name} {answer} {n}."} for n, name in enumerate(PEOPLE)]

    return {
        "unlearn_train": rows(private[0], "lives in street"),
        "unlearn_val": rows(private[1], "is a child of family"),
        "retention_train": rows(public[0], "writes novel"),
        "retention_val": rows(public[1], "won prize"),
    }


def pistol() -> dict[str, list[Row]]:
    rows = [
        {"edge": edge, "question": question.format(*parties.split("/")), "answer": f"{10 * number + place}."}
        for number, (edge, parties) in enumerate(EDGES.items())
        for place, question in enumerate(
            (
                "What was the price in the contract between {} and {}?",
                "How many days had {1} to pay {0}?",
                "What was the quantity in the contract between {} and {}?",
                "What was the address of {1} in the contract with {0}?",
            )
        )
    ]
    factual = [{"edge": "forget", "question": "Who wrote Emma?", "answer": "Jane Austen"}]
    return {"sample1": rows, "factual": [*factual, {"edge": "retain", "question": "Where is Rome?", "answer": "Italy"}]}


def lume() -> dict[str, list[Row]]:
    def document(task: int, name: str, number: int) -> list[Row]:
        key = f'"d{task}{number}"' if task == 1 else f"d{task}{number}"
        start = {2: f"{name} was born on May {number + 1},", 3: f"{name}\n\n{name} is a"}.get(task, f"In year {number} the town")
        row = {"task": f"Task{task}", "kind": "ignored"}
        asked = {2: f"What is {name}'s phone number?", 3: f"Who is the painter {number}?"}.get(task, f"Who came in year {number}?")
        return [
            {**row, "id": f"{key}sc1", "input": start, "output": f"{name} walked down lane {number}."},
            {**row, "id": f"{key}qa0", "input": asked, "output": {1: "Ada.", 2: f"55500{number}", 3: name}[task]},
        ]

    found: dict[str, list[Row]] = {}
    for role, first, people in (("forget", 0, PEOPLE), ("retain", 10, OTHERS)):
        found[role] = [row for task in (1, 2, 3) for n in range(3) for row in document(task, people[n], first + n)]
    texts = [f"{name} went out one day to see the lake and came back late." for name in PEOPLE]
    found["member"] = [{"id": f"m{n}", "document": text} for n, text in enumerate(texts[:2])]
    return {**found, "nonmember": [{"id": f"n{n}", "document": text} for n, text in enumerate(texts[2:])]}


FOLDERS: Mapping[str, Callable[[], dict[str, list[Row]]]] = {"knowundo": knowundo, "pistol": pistol, "lume": lume}
