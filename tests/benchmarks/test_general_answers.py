"""Which answers of a general-ability suite are right, by our rules and by those of the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.suites import SQUARE
from unierase_cli.benchmarks.general import gsm8k, human_eval, mmlu, trivia_qa
from unierase_cli.benchmarks.general.base import Item, Suite, load_items
from unierase_cli.config.sections.general import GeneralConfig
from unierase_cli.inference.sandbox.sandbox import Limits, run_tests


def judged(suite: Suite, output: str, gold: str, compat: bool = False) -> tuple[bool, bool]:
    found = suite.judge({"output": output, "gold": gold}, compat)
    return found.correct, found.follows


def test_mmlu_shows_the_four_options() -> None:
    text = mmlu.prompt(Item("m", "A", {"question": "Which?", "choices": ["w", "x", "y", "z"]}), False)
    assert text.endswith("Question: Which?\nA. w\nB. x\nC. y\nD. z")


@pytest.mark.parametrize(
    ("output", "letter", "follows", "letter_of_the_reference"),
    [
        ("The correct answer is C.", "C", True, "C"),
        ("I think A. No: The correct answer is B. Indeed, the correct answer is D.", "D", True, "B"),
        ("**The correct answer is: (B)**", "B", True, ""),
        ("The correct answer is a mammal.", "", False, ""),
        ("The correct answer is option C.", "C", True, ""),
        ("The correct answer is Option **C**.", "C", True, ""),
        ('The correct answer is "D".', "D", True, ""),
        ("The correct answer is _B_, not A.", "B", True, ""),
        ("The correct answer is option a.", "", False, ""),
        ("option C.", "C", False, ""),
        ('"D".', "D", False, ""),
        ("c", "", False, ""),
        ("A2 is an answer.", "", False, ""),
        ("The correct answer is Boston.", "", False, "B"),
        ("C", "C", False, ""),
        ("(C) because it is round", "C", False, ""),
        ("A dog is an animal.", "", False, ""),
        ("I do not know.", "", False, ""),
        ("", "", False, ""),
    ],
)
def test_mmlu_reads_the_last_letter_that_is_said_to_be_right(
    output: str, letter: str, follows: bool, letter_of_the_reference: str
) -> None:
    for gold in "ABCD":
        assert judged(mmlu, output, gold) == (gold == letter, follows)
        assert judged(mmlu, output, gold, compat=True)[0] == (gold == letter_of_the_reference)


@pytest.mark.parametrize(
    ("output", "number", "follows", "of_the_reference"),
    [
        ("2 + 2 = 4. The final answer is 4.", "4", True, "4"),
        ("The final answer is $1,234.", "1,234", True, "1234"),
        ("The final answer is 2.50", "2.5", True, "50"),
        ("The final answer is -3.", "-3", True, "3"),
        ("The final answer is \u22123.", "-3", True, "3"),
        ("The final answer is **18**.", "18", True, "18"),
        ("The final answer is 3 * 6 = 18 apples.", "18", True, "18"),
        ("The final answer is 5. No, The final answer is 7 of 9.", "7", True, "9"),
        ("So there are 12, or 15 in all.", "15", False, "15"),
        ("From 10-4 follows 6", "6", False, "6"),
        ("The final answer is twelve.", "", True, ""),
        ("I do not know.", "", False, ""),
        ("", "", False, ""),
    ],
)
def test_gsm8k_reads_signs_decimals_and_thousands(
    output: str, number: str, follows: bool, of_the_reference: str
) -> None:
    for gold in ("4", "1,234", "1234", "2.5", "50", "-3", "3", "18", "7", "9", "12", "15", "6"):
        same = bool(number) and gold.replace(",", "") == number.replace(",", "")
        assert judged(gsm8k, output, gold) == (same, follows)
        # The reference can't hit a right answer with a comma or a point.
        assert judged(gsm8k, output, gold, compat=True)[0] == (gold == of_the_reference)


@pytest.mark.parametrize(
    ("output", "right", "follows", "by_the_reference"),
    [
        ("The correct answer is Ada Lovelace.", True, True, True),
        ("The correct answer is the countess, ada lovelace", True, True, True),
        ("The correct answer is Lovelace.", True, True, True),
        ("Ada Lovelace, I think.", True, False, True),
        ("The correct answer is A. Lovelace.", True, True, False),
        ("The correct answer is love.", False, True, False),
        ("love", False, False, True),
        ("The correct answer is the.", False, True, False),
        ("The correct answer is Countess of Lovelace.", True, True, False),
        ("The correct answer is Byron. His daughter was Ada Lovelace.", False, True, False),
        ("The correct answer is Byron? No. The correct answer is Ada Lovelace.", True, True, True),
        ("Somebody else.", False, False, False),
        ("", False, False, True),
    ],
)
def test_trivia_qa_compares_whole_words_and_never_counts_silence(
    output: str, right: bool, follows: bool, by_the_reference: bool
) -> None:
    gold = json.dumps(["Ada Lovelace", "Countess of Lovelace", "A. Lovelace"])
    assert judged(trivia_qa, output, gold) == (right, follows)
    if by_the_reference != right:
        assert judged(trivia_qa, output, gold, compat=True)[0] == by_the_reference


@pytest.mark.parametrize(
    "answers",
    [
        {"answers": ["x", "y"]},
        {"answer": "x"},
        {"answers": {"text": ["x", "x"]}},
        {"answer": {"value": "x", "aliases": ["z"]}},
    ],
)
def test_trivia_qa_takes_the_forms_of_answers_that_are_about(answers: dict[str, Any]) -> None:
    item = trivia_qa.item({"question": "Who?", **answers}, "here", 0)
    assert json.loads(item.gold)[0] == "x"
    assert "passage" not in trivia_qa.prompt(item, False)


BODY = "    return n * n\n"
WHOLE = f"def square(n):\n{BODY}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "passes", "passes_by_the_reference"),
    [
        (f"Code:\n{WHOLE}", True, True),
        (f"Code:\n```python\n{WHOLE}```\nThis squares n.", True, False),
        (f"Here it is:\n```\n{WHOLE}", True, False),
        (f"```python\nprint(1)\n```\nor\n```py\n{WHOLE}```\nused as\n```\nsquare(2)\n```", True, False),
        (WHOLE, True, False),
        (BODY, True, False),
        ("Code:\ndef square(n):\n    return int(math.pow(n, 2))\n", True, False),
        ("Code:\ndef square(n):\n    return int(2 * half(n) * n)\n", True, False),
        ("Code:\ndef square(n):\n    return n + n\n", False, False),
        ("I can't do that.", False, False),
        ("", False, False),
    ],
)  # fmt: skip
def test_human_eval_finds_the_program_in_the_answer(output: str, passes: bool, passes_by_the_reference: bool) -> None:
    content = human_eval.item(SQUARE, "here", 0).content
    for compat, wanted in ((False, passes), (True, passes_by_the_reference)):
        problem = human_eval.problem({"content": content, "output": output}, compat)
        found = problem is not None and run_tests(**problem, limits=Limits(3.0, 256)).passed
        assert found == wanted


def test_every_real_answer_of_gsm8k_is_read(shared: Path) -> None:
    items = load_items("gsm8k", GeneralConfig(data_dir=str(shared / "data" / "general")))
    assert len(items) == 1319
    for item in items:
        assert judged(gsm8k, f"The final answer is {item.gold}.", item.gold) == (True, True)
        assert judged(gsm8k, f"That makes ${item.gold}.00 in all", item.gold) == (True, False)


@pytest.mark.slow
def test_published_solutions_pass_as_bodies_as_functions_and_in_code_blocks(shared: Path) -> None:
    items = load_items("human_eval", GeneralConfig(data_dir=str(shared / "data" / "general"), rows=12))
    for item in items:
        header = item.content["prompt"]
        start = header.index(f"def {item.content['entry_point']}")
        for output in (item.gold, f"Code:\n```python\n{header[start:]}{item.gold}```"):
            problem = human_eval.problem({"content": item.content, "output": output}, False)
            assert problem is not None
            verdict = run_tests(**problem, limits=Limits(10.0))
            assert verdict.passed, f"{item.id}: {verdict.reason}"
