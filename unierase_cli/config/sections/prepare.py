"""How `unierase prepare` finds out what a model knows, and how many facts are to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.contracts import UserError

JUDGES = ["entity", "nli"]


@dataclass(frozen=True)
class PrepareConfig:
    """Which facts count as known, and how many of them are to be forgotten."""

    judge: str = "entity"
    """Judge of an answer: entity (the true answer, or another spelling of it, occurs in the model's answer) or nli
    (eval.nli finds no contradiction to the true answer, as RETURN's authors judge).
    """
    min_right: int = 2
    """A fact is known if its question is answered correctly, and at least this many phrasings in all (all of them if
    there are fewer).
    """
    forget: float = 20
    """Known facts to forget: a number, or a share below 1."""
    groups: list[str] = field(default_factory=list)
    """Groups to forget as a whole instead, for example prepare.groups=[currencies]."""
    max_new_tokens: int = 32
    """Maximum number of new tokens per answer; a known fact appears early in an answer."""

    def __post_init__(self) -> None:
        one_of("prepare.judge", self.judge, JUDGES)
        positive("prepare.min_right", self.min_right)
        positive("prepare.max_new_tokens", self.max_new_tokens)
        positive("prepare.forget", self.forget, example=20)
        if self.forget > 1 and not float(self.forget).is_integer():
            raise UserError(
                f"prepare.forget={self.forget:g} is neither a number of facts nor a share",
                "type for example prepare.forget=20, or prepare.forget=0.1",
            )
