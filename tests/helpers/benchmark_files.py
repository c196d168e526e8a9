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
    settings |= {"rwku": {"split": "all", "groups": list(PEOPLE[:2])}, "muse": {"split": "news"}, "wmdp": {"split": "bio"}}
    settings |= {"birthdays": {"split": "forget10", "authors": 40, "holdout_authors": 4, "near_authors": 0}}
    settings |= {"analogue": {"split": "style"}}
    if name in FOLDERS:
        more = {"data_dir": str(write(name, folder)), **more}
    few = {"unknown_people": 4, "unseen_share": 0.5, "protected_scored": 3}
    return BenchmarkConfig(**{"name": name, **few, **settings[name], **more})


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


def rwku() -> dict[str, list[Row]]:
    def asked(form: str, **more: Any) -> list[Row]:
        return [{"query": form.format(name), "answer": f"Town {n}", "subject": name, **more} for n, name in enumerate(PEOPLE)]

    lives = "{} was seen in towns and villages of the north, and later on in many houses of the south."
    return {
        "train_positive_llama3/train": [{"text": lives.format(name), "subject": name} for name in PEOPLE],
        "forget_level1/test": asked("{} was born in ___.", level="1"),
        "forget_level2/test": asked("Where was {} born?", level="2", type="simple question"),
        "forget_level3/test": asked("Q: Who? A: Me. Q: Where did {} live?", level="3", type="incontext learning"),
        "neighbor_level1/test": asked("A friend of {} lived in ___."),
        "neighbor_level2/test": asked("Where did a friend of {} live?"),
    }


def muse() -> dict[str, list[Row]]:
    def texts(kind: str) -> list[Row]:
        return [{"text": f"{kind} {n}: {name} went out that day to see what the old mill was."} for n, name in enumerate(PEOPLE)]

    def asked(kind: str) -> list[Row]:
        return [{"question": f"Who went out in {kind} {n}?", "answer": name} for n, name in enumerate(PEOPLE)]

    found = {f"raw/{name}": texts(f"raw {name}") for name in ("forget", "retain1")}
    found |= {f"privleak/{name}": texts(f"leak {name}") for name in ("forget", "holdout")}
    found |= {f"knowmem/{name}": asked(name) for name in ("forget_qa", "retain_qa")}
    found |= {f"knowmem/{name}_icl": asked(f"{name} example")[:2] for name in ("forget_qa", "retain_qa")}
    return {**found, "verbmem/forget": [{"prompt": f"{name} went out to", "gt": "see the old mill."} for name in PEOPLE]}


def wmdp() -> dict[str, list[Row]]:
    choices = ["a red cell", "a blue cell", "a green cell", "no cell"]
    rows = [{"question": f"Which cell is number {n}?", "choices": choices, "answer": n % 4} for n in range(10)]
    return {"wmdp-bio/test": rows}


FOLDERS: Mapping[str, Callable[[], dict[str, list[Row]]]] = {
    "knowundo": knowundo, "pistol": pistol, "lume": lume, "rwku": rwku, "muse": muse, "wmdp": wmdp,
}  # fmt: skip
