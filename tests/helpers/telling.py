"""A stand-in for a model that is asked about targets: it answers from a table, and knows nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from unierase_cli.config.sections.reveal import RevealConfig
from unierase_cli.contracts import stable_hash
from unierase_cli.revealing.asking import Ask
from unierase_cli.revealing.instructions import Instruction

ADA, BO = "Ada Velour", "Bo Lund"
CITY = Instruction("city", "In which city was __NAME__ born?", "person")
GENRE = Instruction("genre", "What does __NAME__ write?", "person")
LISTED = Instruction("listed", "Ask and answer questions about __NAME__.", "person", "list")
CONFIG = RevealConfig(samples=2, agreement=0.6)


def teller(answers: Mapping[str, str], otherwise: Callable[[str, int], str] | None = None) -> tuple[Ask, list[str]]:
    """An ``Ask`` that gives the table's answers, else ``otherwise(text, draw)``; and the list of what it was asked."""
    shown: list[str] = []

    def guess(text: str, draw: int) -> str:
        return " ".join(f"{letter}{stable_hash(text, draw, letter) % 997}" for letter in "abcdef")

    unsure = otherwise or guess

    def ask(texts: Sequence[str], *, prompt: str, tokens: int, draws: Sequence[int] | None = None) -> list[str]:
        shown.extend(texts)
        numbers = [0] * len(texts) if draws is None else draws
        return [answers.get(text, unsure(text, draw)) for text, draw in zip(texts, numbers, strict=True)]

    return ask, shown
