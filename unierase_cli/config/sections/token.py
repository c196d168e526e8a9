"""How the unlearning token's rows are learned (spec: token training)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT, UNCOUNTED
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class TokenStage:
    """One stage of the training of the token's rows."""

    formats: list[str] = field(default_factory=lambda: ["chat"])
    """Prompt formats in the order in which they are concatenated: raw (the question alone), chat (the model's own
    prompt) or both.
    """
    epochs: int = 3
    """Passes over the questions."""
    least_steps: int = 30
    """Small sets get more epochs until this many steps are made for each token. 0: epochs as they are."""
    most_steps: int = 0
    """Steps for each token, at most, spread over all its questions. 0: epochs as they are."""
    until: float | None = None
    """End the stage as soon as this share of the questions that token.held_out keeps lead to a listed refusal, word for
    word. null makes all steps.
    """
    lr: float = 0.15
    """Learning rate, in the unit that token.lr_unit names."""
    decay: bool = False
    """Let the learning rate fall linearly to 0 over the stage's steps."""
    noise: float = 0.0
    """Standard deviation of the noise on edited projections, as a fraction of each matrix's own. 0: none."""
    noise_layers: str = "all"
    """Where the noise is: all (all edited layers at once) or one (each edited layer in turn, with this many epochs for
    each).
    """

    def __post_init__(self) -> None:
        positive("token.stages.epochs", self.epochs, zero=True)
        positive("token.stages.least_steps", self.least_steps, zero=True)
        positive("token.stages.most_steps", self.most_steps, zero=True)
        positive("token.stages.lr", self.lr, example=0.1)
        if self.until is not None and not 0 < self.until <= 1:
            raise UserError(f"token.stages.until={self.until} is no share from 0 to 1", "give 1 for all of them, or null")
        if not self.formats:
            raise UserError("token.stages.formats is empty", "name raw, chat or both")
        positive("token.stages.noise", self.noise, zero=True)
        one_of("token.stages.noise_layers", self.noise_layers, ["all", "one"])
        for name in self.formats:
            one_of("token.stages.formats", name, ["raw", "chat"])

    def steps(self, in_epoch: int, tokens: int = 1) -> int:
        """Optimiser steps at most, with so many to an epoch; a step moves the rows of its own facts' tokens alone."""
        if not self.epochs:
            return 0
        steps = max(self.epochs, math.ceil(self.least_steps * tokens / in_epoch)) * in_epoch
        return min(steps, self.most_steps * tokens or steps)


@dataclass(frozen=True)
class TokenConfig:
    """How the rows of the unlearning token are learned."""

    name: str = field(default="default", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of token=NAME."""
    groups: int = 1
    """Groups of facts with a token each (<unlearn_0>, <unlearn_1>, ...). The forget set is cut into this many equal
    parts.
    """
    output_row: str = "fresh"
    """Output row of an untied head: fresh (random but for fresh_lift, with a norm of fresh_norm times the mean row's),
    reference (a copy of the input row's random start, frozen), tied (equal to the input row), trained (learned beside
    the input row) or keep (as the model has it).
    """
    fresh_norm: float = 1.5
    """Norm of a fresh output row, in norms of the mean row."""
    fresh_lift: float | None = 0.3
    """How far a fresh row leans towards the mean state at the questions' ends: there its logit is on average this share
    of the largest one's (counted from the mean logit where that is far from 0), so that an edit has less to add. null:
    a random direction, whose luck decides how much an edit costs.
    """
    init: str = "mean"
    """Start of the input row: normal (drawn with the model's initializer_range), mean (the mean row plus a little
    noise) or keep (as the model has it).
    """
    targets: str | None = field(default=None, metadata=BY_CONTENT)
    """Refusals that the token leads to: null (the lists of the package), long (its list of 64, without the short ones),
    or a JSON Lines (key `text`) or text file.
    """
    choose: int = 1
    """Number of these refusals that are used: those that the unedited model finds likeliest after its questions. 0: all.
    """
    closing: str = "end"
    """What follows a refusal: end (the end token) or unlearn_end (a second [UNL], then the end token, as in the
    reference).
    """
    questions: str = "auto"
    """Questions that the token is trained on: forget (those of the forget set), outside (those outside every forget
    set) or auto (outside for mode=sequential and mode=precise, else forget).
    """
    per_step: bool = False
    """mode=sequential: a token for each request. All of them are added and trained before the first request;
    token.groups must be 1.
    """
    settle: bool = True
    """Before each stage but the first, a fact takes the refusal that its question and [UNL] lead to by then, word for
    word, or the one that most facts reach. false keeps the choice by hash, as the reference does.
    """
    stages: list[TokenStage] = field(default_factory=lambda: [TokenStage(least_steps=60, most_steps=60, until=1.0)])
    """Stages of the training, one after another."""
    batch_size: int = 8
    """Questions of an optimiser step."""
    lr_unit: str = "embedding"
    """Unit of the learning rates: embedding (the root mean square of the model's embedding rows, so that one number suits
    models of any scale) or absolute.
    """
    held_out: int = 16
    """Questions that the token is not trained on and that a stage with `until` looks at. 0, or fewer than twice as many
    questions outside the forget set: some of the training's own.
    """
    refine_epochs: int = 10
    """Epochs of the refinement of the rows on the edited model, at a rate that falls to 0. 0 leaves the rows as
    trained.
    """
    refine_least_steps: int = 0
    """Small sets get more epochs of refinement until this many steps are made. 0: epochs as they are."""
    refine_lr: float = 0.15
    """Learning rate of the refinement, in the unit that token.lr_unit names."""
    refine_noise: float = 0.0
    """Noise of the refinement, of the same kind as that of stages. Without it the questions pass through the model only
    once.
    """
    refine_rounds: int = 2
    """Further rounds of refinement, at most, while some facts lead to no listed refusal; these facts then count as much
    as all others together. The rows that leave the fewest such facts are taken.
    """
    improbable: float = field(default=-6.0, metadata=UNCOUNTED)
    """Warn about refusals whose mean log-probability per token on the unedited model is below this, in nats."""

    def __post_init__(self) -> None:
        one_of("token.output_row", self.output_row, ["fresh", "reference", "tied", "trained", "keep"])
        one_of("token.init", self.init, ["normal", "mean", "keep"])
        one_of("token.closing", self.closing, ["end", "unlearn_end"])
        one_of("token.lr_unit", self.lr_unit, ["embedding", "absolute"])
        positive("token.choose", self.choose, zero=True)
        positive("token.held_out", self.held_out, zero=True)
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
