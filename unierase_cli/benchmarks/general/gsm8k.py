"""GSM8K (Cobbe et al., 2021, arXiv 2110.14168): zero-shot word problems.

The answer is the number after the last "final answer is" (after the equals sign if one follows), else the last number
of the text; signs, decimals, thousands separators and currency signs are parsed, and 18.00 equals 18. ``compat``
follows the UniErase authors' script: "Problem:" appears twice; the last run of digits after the last "The final"
counts, so that -3 is 3 and 2.50 is 50; a gold answer with a thousands separator can never be matched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from unierase_cli.benchmarks.general.base import Item, Judged, text_of
from unierase_cli.contracts import UserError

NAME, TITLE, VERSION = "gsm8k", "GSM8K", 1
FILES = ("gsm8k.jsonl",)
HUB = ("openai/gsm8k", "main", "test")
SAMPLES: tuple[str, ...] = ()
SAMPLED = False
INSTRUCTION = (
    "Solve the problem below step by step. "
    "Close with one sentence of exactly this form, where N is a number without its unit: The final answer is N.\n\n"
)
PHRASE = re.compile(r"final answer is:?", re.IGNORECASE)
# A minus is a sign unless it stands between two terms.
NUMBER = re.compile(r"(?:(?<![\w).])-\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)-?\.\d+")
DIGITS = re.compile(r"\d+")
WHOLE = re.compile(r"-?\d+")
MARK = "####"


def item(row: Mapping[str, Any], where: str, index: int) -> Item:
    answer = text_of(row, "answer", where)
    gold = answer.rpartition(MARK)[2].strip()
    if number_in(gold) is None:
        raise UserError(f'{where}: "answer" does not end in a number: {gold[:40]!r}', f"close it with {MARK} and the number")
    return Item(f"gsm8k-{index}", gold, {"question": text_of(row, "question", where)})


def prompt(item: Item, compat: bool) -> str:
    return f"{INSTRUCTION}{'Problem: ' * (1 + compat)}{item.content['question'].strip()}"


def judge(row: Mapping[str, Any], compat: bool) -> Judged:
    output, gold = row["output"], row["gold"]
    _, *said = PHRASE.split(output)
    if compat:
        runs = DIGITS.findall(output.rpartition("The final")[2].replace("$", "").replace(",", ""))
        right = bool(runs) and bool(WHOLE.fullmatch(gold)) and Decimal(runs[-1]) == Decimal(gold)
        return Judged(right, "The final answer is" in output)
    line = said[-1].partition("\n")[0] if said else ""
    answer = number_in(line.rpartition("=")[2] or line)
    if answer is None:
        answer = number_in(output, last=True)
    return Judged(answer is not None and answer == number_in(gold), bool(said))


def number_in(text: str, *, last: bool = False) -> Decimal | None:
    """The first (or last) number of a text, or None."""
    plain = re.sub(r"[$€£\\*]", "", text.replace("\u2212", "-"))
    found = NUMBER.findall(plain)
    return Decimal(re.sub(r"[,\s]", "", found[-1 if last else 0])) if found else None
