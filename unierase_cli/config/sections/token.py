"""How the unlearning token's rows are learned (spec: token training)."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class TokenStage:
    # Prompt formats in the order they are concatenated: raw (question alone) and/or chat (the model's own prompt).
    formats: list[str] = field(default_factory=lambda: ["chat"])
    epochs: int = 3
    # Small sets get more epochs, until so many steps are made (0: epochs as they are).
    least_steps: int = 30
    lr: float = 1e-2
    # The learning rate falls to nothing along the stage's steps, in a straight line.
    decay: bool = False
    # Standard deviation of the noise on edited projections, as a fraction of each matrix's own; 0 is none.
    noise: float = 0.0
    # all edited layers at once | one (each edited layer in turn, epochs apply per layer)
    noise_layers: str = "all"

    def __post_init__(self) -> None:
        positive("token.stages.epochs", self.epochs, zero=True)
        positive("token.stages.least_steps", self.least_steps, zero=True)
        positive("token.stages.lr", self.lr, example=1e-3)
        if not self.formats:
            raise UserError("token.stages.formats is empty", "name raw, chat or both")
        positive("token.stages.noise", self.noise, zero=True)
        one_of("token.stages.noise_layers", self.noise_layers, ["all", "one"])
        for name in self.formats:
            one_of("token.stages.formats", name, ["raw", "chat"])


@dataclass(frozen=True)
class TokenConfig:
    name: str = field(default="default", metadata=UNCOUNTED)
    # Groups of facts with a token each (<unlearn_0>, <unlearn_1>, ...): the forget set is cut into so many equal parts.
    groups: int = 1
    # Output row of an untied head: fresh (random but for `fresh_lift`, norm `fresh_norm` x the mean row norm) | reference (copy
    # of the input row's random start, frozen) | tied (equal to the input row) | trained (learned beside the input row)
    # | keep (as the model has it).
    output_row: str = "fresh"
    fresh_norm: float = 1.5
    # A fresh row leans so far towards the mean state at the questions' ends that its logit there is this share of the largest
    # one's, in the mean (counted from the mean logit where that is far from 0): an edit has less to add. null: a random
    # direction, whose luck decides how much an edit costs.
    fresh_lift: float | None = 0.3
    # Start of the input row: normal (the model's initializer_range) | mean (mean row plus small noise) | keep (as the model has it)
    init: str = "mean"
    # JSON Lines or text file of refusals to lead to (key `text`); null takes the project's own list.
    targets: str | None = field(default=None, metadata=BY_CONTENT)
    # end: refusal + end token | unlearn_end: refusal + second [UNL] + end token (the reference)
    closing: str = "end"
    # forget: trained on the forget set's questions | outside: on questions outside every forget set | auto: outside where requests
    # come one after another or each on its own, else forget
    questions: str = "auto"
    # mode=sequential: a token for each request, all of them added and trained before the first; groups must then be 1.
    per_step: bool = False
    # Before each stage but the first, a fact takes the refusal that its question and [UNL] lead to by then, word for word, or
    # the one that most facts reach; false keeps the choice by hash, as the reference does.
    settle: bool = True
    stages: list[TokenStage] = field(default_factory=lambda: [TokenStage(), TokenStage(), TokenStage(noise=0.2)])
    batch_size: int = 8
    # Refinement of the rows on the edited model, at a rate that falls to nothing; 0 epochs leaves the rows as trained.
    refine_epochs: int = 10
    # Small sets get more epochs, until so many steps are made (0: epochs as they are).
    refine_least_steps: int = 0
    refine_lr: float = 1e-2
    # Of the kind that stages have; without it the questions are run through the model only once.
    refine_noise: float = 0.0
    # While facts are left that lead to no listed refusal, refine again, with these facts as often as all others; at most so often.
    # The rows that left the fewest are taken.
    refine_rounds: int = 2
    # Say so when the mean log-probability per target token of the unedited model's refusals is below this (nats).
    improbable: float = field(default=-6.0, metadata=UNCOUNTED)

    def __post_init__(self) -> None:
        one_of("token.output_row", self.output_row, ["fresh", "reference", "tied", "trained", "keep"])
        one_of("token.init", self.init, ["normal", "mean", "keep"])
        one_of("token.closing", self.closing, ["end", "unlearn_end"])
        one_of("token.questions", self.questions, ["auto", "forget", "outside"])
        positive("token.groups", self.groups)
        positive("token.batch_size", self.batch_size)
        if self.per_step and self.groups > 1:
            raise UserError(f"token.per_step=true makes the groups, and token.groups={self.groups}", "leave out one of them")
        positive("token.refine_epochs", self.refine_epochs, zero=True)
        positive("token.refine_least_steps", self.refine_least_steps, zero=True)
        positive("token.refine_rounds", self.refine_rounds, zero=True)
        positive("token.refine_lr", self.refine_lr, example=1e-3)
        positive("token.refine_noise", self.refine_noise, zero=True)
        positive("token.fresh_norm", self.fresh_norm)
        if self.fresh_lift is not None and not -1 < self.fresh_lift < 1:
            hint = "give for example 0.3, or null for a random direction"
            raise UserError(f"token.fresh_lift={self.fresh_lift} is no share from -1 to 1", hint)
        if not self.stages:
            raise UserError("token.stages is empty", "give at least one stage, e.g. token.stages=[{epochs: 6}]")
