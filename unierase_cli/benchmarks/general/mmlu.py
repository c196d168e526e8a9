"""MMLU (Hendrycks et al., 2021, arXiv 2009.03300): zero-shot questions from 57 subjects with four options each.

The answer is the last "The correct answer is X", where X is a capital letter, possibly in quotes, in bold or as "option
X". Without that sentence, it is an answer that is only such a letter, or that starts with one like a list item ("B." or
"(B)"). ``compat``: "Question:" appears twice, and only the sentence itself counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unierase_cli.benchmarks.general.base import Item, Judged, text_of
from unierase_cli.contracts import UserError

NAME, TITLE, VERSION = "mmlu", "MMLU", 2
FILES = ("mmlu_test_sample.jsonl", "mmlu.jsonl")
SAMPLES = ("mmlu_test_sample.jsonl",)
HUB = ("cais/mmlu", "all", "test")
SAMPLED = True
LETTERS = "ABCD"
INSTRUCTION = (
    "Choose the right option for the question below. You may think first. "
    "Close with one sentence of exactly this form, where X is the letter of the option: The correct answer is X.\n\n"
)
# Only capitals, since "a" is an article. No letter or digit may follow.
LETTER = r"(?:(?i:option|choice|letter)[\W_]+)?([A-D])(?![^\W_])"
SENTENCE = re.compile(rf"(?i:correct answer is)[\W_]*{LETTER}")
EXACT_SENTENCE = re.compile(r"The correct answer is ([A-D])")
ALONE = re.compile(rf"[\W_]*{LETTER}[\W_]*|\(?([A-D])[).:].*", re.DOTALL)


def item(row: Mapping[str, Any], where: str, index: int) -> Item:
    choices, answer = row.get("choices"), row.get("answer")
    if (
        not isinstance(choices, list | tuple)
        or len(choices) != len(LETTERS)
        or not all(isinstance(choice, str | int | float) and str(choice).strip() for choice in choices)
    ):
        raise UserError(
            f'{where}: "choices" is not a list of {len(LETTERS)} options', 'write "choices": ["..", "..", "..", ".."]'
        )
    letter = LETTERS[answer] if type(answer) is int and answer in range(len(LETTERS)) else answer
    if not isinstance(letter, str) or letter not in tuple(LETTERS):
        raise UserError(f'{where}: "answer" is {str(answer)[:40]!r}, not an option', "write 0 to 3 or A to D")
    content = {"question": text_of(row, "question", where), "choices": [str(choice) for choice in choices]}
    return Item(f"mmlu-{index}", str(letter), content)


def prompt(item: Item, compat: bool) -> str:
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.content["choices"], strict=True))
    return f"{INSTRUCTION}{'Question: ' * (1 + compat)}{item.content['question'].strip()}\n{options}"


def judge(row: Mapping[str, Any], compat: bool) -> Judged:
    found = (EXACT_SENTENCE if compat else SENTENCE).findall(row["output"])
    answer = found[-1] if found else ""
    if not found and not compat and (alone := ALONE.fullmatch(row["output"].strip())):
        answer = alone[1] or alone[2]
    return Judged(answer == row["gold"], bool(found))
