"""How the unlearning token's rows are learned (spec: token training)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.contracts import UserError


@dataclass
class TokenStage:
    # Prompt formats in the order they are concatenated: raw (question alone) and/or chat (the model's own prompt).
    formats: list[str] = field(default_factory=lambda: ["chat"])
    epochs: int = 3
    # Small sets get more epochs, until so many steps are made (0: epochs as they are).
    least_steps: int = 30
    # Steps at most, spread over all questions (0: epochs as they are).
    most_steps: int = 0
    # The stage ends as soon as this share of the questions that are kept for looking (`token.held_out`) leads to a listed
    # refusal, word for word; null makes all its steps.
    until: float | None = None
    # In the unit that `token.lr_unit` names.
    lr: float = 0.15
    # The learning rate falls to nothing along the stage's steps, in a straight line.
    decay: bool = False
    # Standard deviation of the noise on edited projections, as a fraction of each matrix's own; 0 is none.
    noise: float = 0.0
    # all edited layers at once | one (each edited layer in turn, epochs apply per layer)
    noise_layers: str = "all"

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

    def steps(self, in_epoch: int) -> int:
        """Optimiser steps at most, with so many to an epoch."""
        if not self.epochs:
            return 0
        steps = max(self.epochs, math.ceil(self.least_steps / in_epoch)) * in_epoch
        return min(steps, self.most_steps or steps)


@dataclass
class TokenConfig:
    name: str = "default"
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
    # Refusals to lead to: null (the project's lists) | long (its list of 64 without the short ones) | a JSON Lines (key `text`) or
    # text file.
    targets: str | None = None
    # How many of the refusals are used: those that are likeliest after its questions on the unedited model; 0 takes all.
    choose: int = 1
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
    stages: list[TokenStage] = field(default_factory=lambda: [TokenStage(least_steps=60, most_steps=60, until=1.0)])
    batch_size: int = 8
    # What learning rates are given in: embedding (the root mean square of the model's embedding rows: the same number suits models
    # of any scale) | absolute
    lr_unit: str = "embedding"
    # Questions outside the training that a stage with `until` looks at.
    held_out: int = 16
    # Refinement of the rows on the edited model, at a rate that falls to nothing; 0 epochs leaves the rows as trained.
    refine_epochs: int = 10
    # Small sets get more epochs, until so many steps are made (0: epochs as they are).
    refine_least_steps: int = 0
    refine_lr: float = 0.15
    # Of the kind that stages have; without it the questions are run through the model only once.
    refine_noise: float = 0.0
    # While facts are left that lead to no listed refusal, refine again, with these facts as often as all others; at most so often.
    # The rows that left the fewest are taken.
    refine_rounds: int = 2
    # Say so when the mean log-probability per target token of the unedited model's refusals is below this (nats).
    improbable: float = -6.0

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
