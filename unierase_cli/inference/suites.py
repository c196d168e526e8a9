"""Asking the questions of a suite: plain greedy answers, and what is kept of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from unierase_cli.contracts import UserError
from unierase_cli.inference.generate import generate
from unierase_cli.models.load import LoadedModel


@dataclass(frozen=True)
class Question:
    """A question of a suite as it is put to the model."""

    id: str
    ids: list[int]

    @property
    def prompt_hash(self) -> str:
        return hashlib.sha256(" ".join(map(str, self.ids)).encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True)
class Answer:
    """``output`` is the text without special tokens; ``tokens`` counts what was generated, the end token left out."""

    id: str
    prompt_hash: str
    output: str
    tokens: int
    stop: str


def questions_of(loaded: LoadedModel, texts: Sequence[tuple[str, str]], *, compat: bool = False) -> list[Question]:
    """(id, text) as one user turn each in the model's own template.

    ``compat`` encodes the rendered template once more with special tokens, as the UniErase authors' scripts do: a tokenizer that
    puts a BOS in front of every text then puts a second one. Raises UserError naming a question that does not fit the model.
    """
    found = []
    again = second_bos(loaded) if compat else []
    for name, text in texts:
        try:
            ids = loaded.prompts.prompt(text).ids
        except UserError as error:
            raise UserError(f"{name}: {error.message}", "leave the suite out of eval.general.suites") from error
        found.append(Question(name, [*again, *ids]))
    return found


def second_bos(loaded: LoadedModel) -> list[int]:
    """What the tokenizer puts in front of a text that has its BOS already; nothing for most tokenizers."""
    bos = loaded.prompts.bos_ids
    ids = loaded.tokenizer("a", add_special_tokens=True)["input_ids"]
    return list(bos) if bos and loaded.prompts.style == "chat" and ids[:1] == bos else []


def answers_to(loaded: LoadedModel, questions: Sequence[Question], max_new_tokens: int) -> list[Answer]:
    """Greedy answers to one batch of questions, in its order."""
    generated = generate(
        loaded, [q.ids for q in questions], max_new_tokens=max_new_tokens, batch_size=max(len(questions), 1)
    )
    return [
        Answer(
            question.id,
            question.prompt_hash,
            # Faithful text: no tidying of spaces before punctuation.
            str(loaded.tokenizer.decode(found.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)),
            len(found.ids),
            found.stop,
        )
        for question, found in zip(questions, generated, strict=True)
    ]
