"""Asks a model, greedily or by drawn numbers, in its own prompt or as raw text to continue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unierase_cli.contracts import UserError
from unierase_cli.revealing.instructions import RAW

if TYPE_CHECKING:
    from unierase_cli.models.load import LoadedModel


class Ask(Protocol):
    """Texts -> the model's answers, in order.

    ``prompt``: own or raw. ``tokens``: of an answer, at most. ``draws``: a seed for each text, None for greedy answers.
    """

    def __call__(self, texts: Sequence[str], *, prompt: str, tokens: int, draws: Sequence[int] | None = None) -> list[str]: ...


def asker(loaded: LoadedModel, temperature: float, batch_size: int = 0) -> Ask:
    """Ask this model; drawn answers depend on their own seed only. A text that exceeds its context gets an empty answer."""
    from unierase_cli.inference.generate import answer_text, generate

    def ask(texts: Sequence[str], *, prompt: str, tokens: int, draws: Sequence[int] | None = None) -> list[str]:
        ids: dict[int, list[int]] = {}
        for number, text in enumerate(texts):
            with suppress(UserError):
                ids[number] = loaded.prompts.prompt(text, "raw" if prompt == RAW else None).ids
        numbers = None if draws is None else [np.random.default_rng(draws[n]).random(tokens).tolist() for n in ids]
        found = generate(
            loaded, list(ids.values()), max_new_tokens=tokens, draws=numbers, temperature=temperature, batch_size=batch_size
        )
        said = {number: answer_text(loaded, one).strip() for number, one in zip(ids, found, strict=True)}
        return [said.get(number, "") for number in range(len(texts))]

    return ask
