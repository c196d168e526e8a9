"""How `unierase trace` measures which blocks and tokens carry the facts."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, one_of, positive
from unierase_cli.config.counted import UNCOUNTED
from unierase_cli.contracts import UserError, duplicates

KINDS = ["residual", "mlp", "attention"]


@dataclass(frozen=True)
class TraceConfig:
    """Causal tracing (Meng et al. 2022, arXiv 2202.05262): noise hides the subject, and one state at a time is restored."""

    facts: int = 20
    """Facts that are traced, at most, evenly spaced over those to forget that the model answers. 0: all of these."""
    floor: float = 0.1
    """Probability of the answer's first token from which the model counts as answering."""
    lead: str = ""
    """Text that begins the answer, for chat models that answer in a sentence: trace.lead='Answer:'. What follows it is scored."""
    noise: float = 3.0
    """Standard deviation of the noise on the subject's embeddings, in standard deviations of these embeddings."""
    samples: int = 10
    """Samples of the noise for each fact."""
    kinds: list[str] = field(default_factory=lambda: ["residual", "mlp"])
    """States that are restored: residual (a block's output), mlp and attention (their outputs in a window of blocks)."""
    class_tokens: int = 3
    """Middle and further tokens that are restored, each by itself, at most, evenly spaced: their class gets the mean. 0: all."""
    window: int | None = None
    """Blocks whose MLPs or attentions are restored together. null: as many as the rule for the model's depth edits."""
    batch_tokens: int = field(default=8192, metadata=UNCOUNTED)
    """Tokens of a forward pass, at most."""

    def __post_init__(self) -> None:
        positive("trace.facts", self.facts, zero=True)
        fraction("trace.floor", self.floor)
        positive("trace.noise", self.noise, example=3)
        positive("trace.samples", self.samples)
        positive("trace.class_tokens", self.class_tokens, zero=True)
        positive("trace.batch_tokens", self.batch_tokens)
        if self.window is not None:
            positive("trace.window", self.window, example=5)
        for kind in self.kinds:
            one_of("trace.kinds", kind, KINDS)
        if not self.kinds or duplicates(self.kinds):
            raise UserError(f"trace.kinds={self.kinds} must name each kind once, at least one", "for example trace.kinds=[mlp]")
