"""Asks the questions of a suite: plain greedy answers, and what is recorded of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.config.sections.general import TOO_LONG
from unierase_cli.contracts import UserError
from unierase_cli.inference.generate import Generated, answer_text, check_room, generate
from unierase_cli.models.load import LoadedModel


@dataclass(frozen=True)
class Question:
    """A question of a suite as prompt ``ids``, empty if it does not fit the model's context."""

    id: str
    ids: list[int]

    @property
    def too_long(self) -> bool:
        return not self.ids

    @property
    def prompt_hash(self) -> str:
        return hashlib.sha256(" ".join(map(str, self.ids)).encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True)
class Answer:
    """An answer; ``output`` is the text without special tokens, ``tokens`` the number of generated tokens without the
    end token.

    ``stop``: as in ``inference.generate``, or TOO_LONG for a question that was not asked.
    """

    id: str
    prompt_hash: str
    output: str
    tokens: int
    stop: str


def questions_of(loaded: LoadedModel, texts: Sequence[tuple[str, str]], *, compat: bool = False) -> list[Question]:
    """Each (id, text) as one user turn in the model's own template.

    ``compat`` encodes the rendered template with special tokens again, as the UniErase authors' scripts do: a tokenizer
    that adds BOS to every text then adds a second one.
    """
    again = second_bos(loaded) if compat else []
    return [Question(name, _fitting(loaded, text, again)) for name, text in texts]


def _fitting(loaded: LoadedModel, text: str, before: list[int]) -> list[int]:
    """The prompt's ids; empty if they leave no room for an answer in the model's context."""
    try:
        ids = [*before, *loaded.prompts.prompt(text).ids]
        check_room([len(ids)], loaded.prompts.max_length)
    except UserError:
        return []
    return ids


def second_bos(loaded: LoadedModel) -> list[int]:
    """What the tokenizer adds in front of a text that already has its BOS; empty for most tokenizers."""
    bos = loaded.prompts.bos_ids
    ids = loaded.tokenizer("a", add_special_tokens=True)["input_ids"]
    return list(bos) if bos and loaded.prompts.style == "chat" and ids[:1] == bos else []


def answers_to(loaded: LoadedModel, questions: Sequence[Question], max_new_tokens: int) -> list[Answer]:
    """Greedy answers to one batch of questions, in order; empty for a question that is too long."""
    asked = [q.ids for q in questions if not q.too_long]
    generated = iter(generate(loaded, asked, max_new_tokens=max_new_tokens, batch_size=max(len(asked), 1)))
    found = [Generated([], TOO_LONG) if question.too_long else next(generated) for question in questions]
    return [
        Answer(
            question.id,
            question.prompt_hash,
            answer_text(loaded, said),
            len(said.ids),
            said.stop,
        )
        for question, said in zip(questions, found, strict=True)
    ]
