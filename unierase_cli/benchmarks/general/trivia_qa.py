"""TriviaQA (Joshi et al., 2017, arXiv 1705.03551) as reading comprehension: a passage, where a row has one, and a question.

The answer is the rest of the last sentence with "The correct answer is", else the whole output. It is right if, without case,
punctuation and articles, one of the listed answers is a part of it in whole words, or it of one of them; an empty answer is wrong.
``compat``: "Question:" stands there twice, the answer ends at the first full stop, only the first listed answer counts, and any
characters that contain each other are right, an empty output therefore always.
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
# The rows of the MRQA shared task: a passage that holds the answer goes with each question.
HUB = ("lucadiliello/triviaqa", None, "validation")
SAMPLES: tuple[str, ...] = ()
SAMPLED = True
INSTRUCTION = (
    "Answer the question below{passage}. You may think first. "
    "Close with one sentence of exactly this form, with the answer in as few words as possible: The correct answer is ANSWER.\n\n"
)
PHRASE = re.compile(r"correct answer is:?", re.IGNORECASE)
# Where an answer ends: at the line's end, or where another sentence starts (initials do not end one).
END = re.compile(r"\n|(?<=\w\w)[.!?]\s+(?=[A-Z])")
EXACT_SENTENCE = re.compile(r"The correct answer is ([^.]*\.)")
# `regex` counts the marks on letters to \w.
PUNCTUATION = regex.compile(r"[^\w\s]")
ARTICLES = re.compile(r"\b(a|an|the)\b")


def item(row: Mapping[str, Any], where: str, index: int) -> Item:
    """``answers``: a list, or SQuAD's ``{"text": [...]}``; or ``answer``: a text, or TriviaQA's own ``{"value", "aliases"}``."""
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
        raise UserError(f'{where}: "answers" is no list of texts', 'write "answers": ["..."]')
    content = {"question": text_of(row, "question", where), "context": text_of(row, "context", where) if row.get("context") else ""}
    # All answers in one text, since a row keeps one.
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
    """Lower case, letters and digits only, no articles, single spaces; around it spaces, so that words are found whole."""
    words = ARTICLES.sub(" ", PUNCTUATION.sub("", visible(text).lower())).split()
    return f" {' '.join(words)} "


def _share(said: str, answer: str) -> bool:
    return bool(said.strip() and answer.strip()) and (said in answer or answer in said)
