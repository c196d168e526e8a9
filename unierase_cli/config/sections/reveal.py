"""How `unierase reveal` makes a model tell what it knows about given targets."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import fraction, one_of, positive
from unierase_cli.config.counted import BY_CONTENT
from unierase_cli.contracts import UserError, duplicates

KINDS = ["person", "topic"]
PROMPTS = ["own", "raw"]
SEARCHES = ["none", "random", "bandit"]
# Read only where instructions are scored or searched for.
OF_SEARCH = (
    "diversity", "search", "budget", "start", "rounds", "candidates", "soft_tokens", "exploration", "ridge", "search_targets",
    "keep",
)  # fmt: skip


@dataclass(frozen=True)
class RevealConfig:
    """Self-generated forget sets, after Reveal-and-Release (Xie et al. 2025, arXiv 2509.14624); all defaults are ours."""

    targets: str | None = field(default=None, metadata=BY_CONTENT)
    """File of targets: a text file with one name or topic per line, or JSON Lines of {"name": ..., "kind": ...}."""
    kind: str = "person"
    """Kind of the targets that the file gives no kind: person or topic."""
    retain_path: str | None = field(default=None, metadata=BY_CONTENT)
    """JSON Lines of facts about others (question, answer, group or subject). Their questions are asked about the targets
    too, with the name replaced.
    """
    templates: int = 60
    """Questions taken from reveal.retain_path, at most: the most frequent ones first, near repeats once."""
    prompts: list[str] = field(default_factory=lambda: ["own", "raw"])
    """How the seed instructions are given: own (in the model's own prompt), raw (as a text to continue)."""
    samples: int = 4
    """Answers drawn for each question, whose agreement shows whether the model knows the answer."""
    temperature: float = 0.8
    """Temperature at which they are drawn."""
    max_new_tokens: int = 48
    """Maximum number of new tokens of an answer."""
    list_tokens: int = 200
    """Maximum number of new tokens of a text or of a list of questions and answers."""
    agreement: float = 0.6
    """A question is kept if the drawn answers agree with the greedy one (mean ROUGE-L F1) at least this much."""
    per_target: int = 40
    """Rows kept for each target, at most, those with the highest agreement."""
    diversity: float = 1.0
    """Weight of diversity against relevance in the score of an instruction (beta of their weighted harmonic mean)."""
    search: str = "none"
    """Further instructions: none (the seeds alone), random (written by the model from random soft prompts) or bandit
    (from soft prompts that NeuralUCB chooses).
    """
    budget: int = 60
    """Soft prompts that a search scores."""
    start: int = 20
    """bandit: soft prompts of the budget that are scored before the network is trained."""
    rounds: int = 2
    """bandit: outer rounds; each later one draws half of its candidates near the best soft prompts so far."""
    candidates: int = 2000
    """Soft prompts that a search can choose from (in each outer round)."""
    soft_tokens: int = 5
    """Length of a soft prompt in tokens."""
    exploration: float = 1.0
    """bandit: nu of NeuralUCB, the weight of uncertainty against the predicted score."""
    ridge: float = 0.1
    """bandit: lambda of NeuralUCB."""
    search_targets: int = 4
    """Targets on which a search scores an instruction, at most (the first ones)."""
    keep: int = 8
    """Instructions that a search adds to the seeds, at most."""

    def __post_init__(self) -> None:
        one_of("reveal.kind", self.kind, KINDS)
        one_of("reveal.search", self.search, SEARCHES)
        for name in self.prompts:
            one_of("reveal.prompts", name, PROMPTS)
        if not self.prompts or duplicates(self.prompts):
            raise UserError(
                f"reveal.prompts={self.prompts} must name each way once, at least one", "for example reveal.prompts=[own]"
            )
        for key in ("max_new_tokens", "list_tokens", "per_target", "budget", "start", "rounds", "candidates", "soft_tokens"):
            positive(f"reveal.{key}", getattr(self, key))
        for key in ("samples", "search_targets", "keep"):
            positive(f"reveal.{key}", getattr(self, key))
        positive("reveal.templates", self.templates, zero=True)
        positive("reveal.temperature", self.temperature, example=0.8)
        positive("reveal.diversity", self.diversity)
        positive("reveal.exploration", self.exploration, zero=True)
        positive("reveal.ridge", self.ridge, example=0.1)
        fraction("reveal.agreement", self.agreement)
        if self.search == "bandit" and self.budget <= self.start:
            raise UserError(
                f"reveal.budget={self.budget} is used up by the reveal.start={self.start} soft prompts before the network",
                f"type for example reveal.budget={3 * self.start}, or reveal.search=random",
            )
        if self.search != "none" and self.candidates < self.budget:
            raise UserError(
                f"reveal.candidates={self.candidates} are fewer than reveal.budget={self.budget}",
                f"type for example reveal.candidates={20 * self.budget}",
            )
