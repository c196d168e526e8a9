"""How `unierase attribute` finds the answer tokens that carry a fact."""

from __future__ import annotations

from dataclasses import dataclass

from unierase_cli.config.checks import fraction, one_of
from unierase_cli.contracts import UserError

# Value of unlearn.token_weights that asks for the weights of the stage ``attribute``, in place of a file.
ATTRIBUTION = "attribution"


@dataclass(frozen=True)
class AttributeConfig:
    """Importance of answer tokens, by masking the subject and by entropy (after arXiv 2605.00364)."""

    mask: str = "someone"
    """Text in the subject's place in the question (a question without a known subject is replaced as a whole)."""
    entropy: float = 0.5
    """Share of the importance that entropy decides; the rest is how much the log-probability falls by masking."""
    select: str = "soft"
    """Weights by importance: soft (in proportion), or hard (equal for the most important tokens, 0 for the others)."""
    top: float = 0.5
    """select=hard: share of an answer's tokens that count."""
    least: float = 0.2
    """select=soft: weight that every token keeps, of a mean of 1."""

    def __post_init__(self) -> None:
        one_of("attribute.select", self.select, ["soft", "hard"])
        for key in ("entropy", "least", "top"):
            fraction(f"attribute.{key}", getattr(self, key))
        if not self.top:
            raise UserError("attribute.top=0 leaves no token that counts", "for example attribute.top=0.5")
        if not self.mask.strip():
            raise UserError("attribute.mask is empty", "give a text that names nobody, for example attribute.mask=someone")
