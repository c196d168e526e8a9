"""Files of every general-ability suite, of a few rows each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unierase_cli.store.jsonl import write_jsonl

SQUARE = {
    "task_id": "made/0",
    "prompt": 'import math\n\n\ndef half(n):\n    return n / 2\n\n\ndef square(n):\n    """n times n."""\n',
    "canonical_solution": "    return n * n\n",
    "test": "def check(candidate):\n    assert candidate(3) == 9\n    assert half(candidate(2)) == 2\n",
    "entry_point": "square",
}


def made_rows() -> dict[str, list[dict[str, Any]]]:
    """A few rows of every suite, in the form of its file."""
    return {
        "mmlu_test_sample": [
            {"subject": "birds", "row": n, "question": f"Bird {n}?", "choices": ["a", "b", "c", "d"], "answer": n % 4}
            for n in range(20)
        ],
        "gsm8k": [{"question": f"What is {n} and one?", "answer": f"Count on.\n#### {n + 1}"} for n in range(5)],
        "trivia_qa": [
            {"question": f"Who wrote book {n}?", "answers": [f"Writer {n}"], "context": "A page."} for n in range(20)
        ],
        "human_eval": [{**SQUARE, "task_id": f"made/{n}"} for n in range(2)],
    }


def write_suites(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in made_rows().items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    return folder
