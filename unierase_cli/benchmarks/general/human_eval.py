"""HumanEval (Chen et al., 2021, arXiv 2107.03374): complete a function from its header and docstring; the problem's
tests are run.

The program is the code block that defines the function, else the text after "Code:", else the output; a text that does
not define the function continues the header. Whatever precedes the function in the prompt (imports, helpers) is
prepended. ``compat`` follows the UniErase authors' script: "Function:" appears twice, an answer without "Code:" is
wrong, and the rest is used as it is: code fences are syntax errors, and the prompt's imports are missing. (There the
tests also see the answer's other functions; here they see the prompt's.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unierase_cli.benchmarks.general.base import Item, Judged, text_of
from unierase_cli.contracts import UserError

NAME, TITLE, VERSION = "human_eval", "HumanEval", 1
FILES = ("human_eval.jsonl",)
HUB = ("openai/openai_humaneval", None, "test")
SAMPLES: tuple[str, ...] = ()
SAMPLED = False
MARK = "Code:"
INSTRUCTION = (
    f'Complete the Python function below. Write "{MARK}" and after it the whole function with its imports, '
    "and nothing else.\n\n"
)
BLOCK = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def item(row: Mapping[str, Any], where: str, index: int) -> Item:
    keys = ("prompt", "test", "entry_point")
    content = {key: text_of(row, key, where) for key in keys}
    if not content["entry_point"].isidentifier() or _place(content["prompt"], content["entry_point"]) is None:
        raise UserError(f'{where}: "prompt" does not define the function {content["entry_point"]}', "check entry_point")
    if "def check(" not in content["test"]:
        raise UserError(f'{where}: "test" does not define the function check', "write def check(candidate): ...")
    return Item(text_of(row, "task_id", where), str(row.get("canonical_solution") or ""), content)


def prompt(item: Item, compat: bool) -> str:
    return INSTRUCTION + "Function:\n" * (1 + compat) + str(item.content["prompt"]).strip()


def problem(row: Mapping[str, Any], compat: bool) -> dict[str, str] | None:
    """What the sandbox runs: the program, its function's name, the tests, and what they need."""
    content, output = row["content"], row["output"]
    if compat and MARK not in output:
        return None
    code = output.replace(MARK, "") if compat else program(output, content["prompt"], content["entry_point"])
    return {"code": code, "entry": content["entry_point"], "tests": content["test"], "prompt": content["prompt"]}


def program(output: str, header: str, entry: str) -> str:
    """The program in an answer, as described above."""
    blocks = BLOCK.findall(output)
    defining = [block for block in blocks if _place(block, entry) is not None]
    chosen = defining[-1] if defining else blocks[-1] if blocks else output.partition(MARK)[2] or output
    place = _place(header, entry)
    if _place(chosen, entry) is None or place is None:
        return header + chosen
    return header[:place] + chosen


def judge(row: Mapping[str, Any], compat: bool) -> Judged:
    return Judged(bool(row["passed"]), MARK in row["output"])


def _place(text: str, entry: str) -> int | None:
    """Where the definition of ``entry`` starts."""
    found = re.search(rf"^(?:async )?def {re.escape(entry)}\b", text, re.MULTILINE)
    return found.start() if found else None
