"""TriviaQA (Joshi et al., 2017, arXiv 1705.03551) as reading comprehension: a question, with a passage if the row has
one.

The answer is what follows the last "The correct answer is", up to the end of the sentence, else the whole output. It is
right if, ignoring case, punctuation and articles, one of the listed answers is contained in it as whole words, or it in
one of them; an empty answer is wrong. ``compat``: "Question:" appears twice, the answer ends at the first full stop,
only the first listed answer counts, and containment is by characters, so that an empty output is always right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import regex

from unierase_cli.benchmarks.general.base import Item, Judged, text_of
from unierase_cli.contracts import UserError
from unierase_cli.words import visible

NAME, TITLE, VERSION = "trivia_qa", "TriviaQA", 2
FILES = ("trivia_qa.jsonl",)
# The rows of the MRQA shared task, where each question has a passage that contains the answer.
HUB = ("lucadiliello/triviaqa", None, "validation")
SAMPLES: tuple[str, ...] = ()
SAMPLED = True
INSTRUCTION = (
    "Answer the question below{passage}. You may think first. "
    "Close with one sentence of exactly this form, with the answer in as few words as possible: The correct answer is ANSWER.\n\n"
)
PHRASE = re.compile(r"correct answer is:?", re.IGNORECASE)
# An answer ends at the end of the line, or where another sentence starts (not after initials).
END = re.compile(r"\n|(?<=\w\w)[.!?]\s+(?=[A-Z])")
EXACT_SENTENCE = re.compile(r"The correct answer is ([^.]*\.)")
# `regex` counts combining marks as \w.
PUNCTUATION = regex.compile(r"[^\w\s]")
ARTICLES = re.compile(r"\b(a|an|the)\b")


def item(row: Mapping[str, Any], where: str, index: int) -> Item:
    """Item of a row; ``answers`` is a list or SQuAD's ``{"text": [...]}``, or ``answer`` a text or TriviaQA's own
    ``{"value", "aliases"}``.
    """
    answers = row.get("answers", row.get("answer"))
    if isinstance(answers, Mapping):
        aliases = answers.get("aliases") or []
        answers = answers.get("text") or [answers.get("value"), *(aliases if isinstance(aliases, list) else [None])]
    answers = [answers] if isinstance(answers, str) else answers
    if (
        not isinstance(answers, list | tuple)
        or not answers
        or not all(isinstance(a, str) and a.strip() for a in answers)
    ):
        raise UserError(f'{where}: "answers" is not a list of texts', 'write "answers": ["..."]')
    content = {"question": text_of(row, "question", where), "context": text_of(row, "context", where) if row.get("context") else ""}
    # All answers in one text, since a row holds only one.
    return Item(f"trivia_qa-{index}", json.dumps(list(dict.fromkeys(answers)), ensure_ascii=False), content)


def prompt(item: Item, compat: bool) -> str:
    context = item.content["context"].strip()
    instruction = INSTRUCTION.format(passage=" from the passage" if context else "")
    passage = f"Passage: {context}\n\n" if context else ""
    return f"{instruction}{passage}{'Question: ' * (1 + compat)}{item.content['question'].strip()}"


def judge(row: Mapping[str, Any], compat: bool) -> Judged:
    output, answers = row["output"], json.loads(row["gold"])
    if compat:
        found = EXACT_SENTENCE.findall(output)
        said, gold = (found[-1] if found else output).lower(), answers[0].lower()
        return Judged(said in gold or gold in said, bool(found))
    _, *parts = PHRASE.split(output)
    said = END.split(parts[-1].strip())[0] if parts else output
    return Judged(any(_share(normalised(said), normalised(answer)) for answer in answers), bool(parts))


def normalised(text: str) -> str:
    """Lower case, letters and digits only, no articles, single spaces, padded with spaces so that words match whole."""
    words = ARTICLES.sub(" ", PUNCTUATION.sub("", visible(text).lower())).split()
    return f" {' '.join(words)} "


def _share(said: str, answer: str) -> bool:
    return bool(said.strip() and answer.strip()) and (said in answer or answer in said)
