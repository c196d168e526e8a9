"""How the unlearning token's rows are trained (spec: token training)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from unierase_cli.config.checks import one_of, positive
from unierase_cli.config.counted import BY_CONTENT, IF_SET, UNCOUNTED
from unierase_cli.contracts import UserError


@dataclass(frozen=True)
class TokenStage:
    """One stage of training the token's rows."""

    formats: list[str] = field(default_factory=lambda: ["chat"])
    """Prompt formats in the order in which they are concatenated: raw (only the question), chat (the model's own prompt)
    or both.
    """
    epochs: int = 3
    """Passes over the questions."""
    least_steps: int = 30
    """Minimum number of steps per token: small sets get more epochs. 0: epochs as given."""
    most_steps: int = 0
    """Maximum number of steps per token, spread over all its questions. 0: epochs as given."""
    until: float | None = None
    """End the stage as soon as this share of the held-out questions (token.held_out) leads to a listed refusal, word for
    word. null: make all steps.
    """
    lr: float = 0.15
    """Learning rate, in the unit given by token.lr_unit."""
    decay: bool = False
    """Decay the learning rate linearly to 0 over the stage."""
    noise: float = 0.0
    """Standard deviation of the noise on edited projections, as a fraction of each matrix's own. 0: none."""
    noise_layers: str = "all"
    """Where the noise is added: all (all edited layers at once) or one (one edited layer after another, with this many
    epochs each).
    """

    def __post_init__(self) -> None:
        positive("token.stages.epochs", self.epochs, zero=True)
        positive("token.stages.least_steps", self.least_steps, zero=True)
        positive("token.stages.most_steps", self.most_steps, zero=True)
        positive("token.stages.lr", self.lr, example=0.1)
        if self.until is not None and not 0 < self.until <= 1:
            raise UserError(f"token.stages.until={self.until} must be above 0 and at most 1", "give 1 for all questions, or null")
        if not self.formats:
            raise UserError("token.stages.formats is empty", "name raw, chat or both")
        positive("token.stages.noise", self.noise, zero=True)
        one_of("token.stages.noise_layers", self.noise_layers, ["all", "one"])
        for name in self.formats:
            one_of("token.stages.formats", name, ["raw", "chat"])

    def steps(self, in_epoch: int, tokens: int = 1) -> int:
        """Maximum number of optimiser steps, given the steps per epoch; each step moves only the rows of its own facts' tokens."""
        if not self.epochs:
            return 0
        steps = max(self.epochs, math.ceil(self.least_steps * tokens / in_epoch)) * in_epoch
        return min(steps, self.most_steps * tokens or steps)


@dataclass(frozen=True)
class TokenConfig:
    """How the rows of the unlearning token are trained."""

    name: str = field(default="default", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of token=NAME."""
    groups: int = 1
    """Number of groups of facts, each with its own token (<unlearn_0>, <unlearn_1>, ...). The forget set is cut into this
    many equal parts.
    """
    output_row: str = "fresh"
    """Output row of an untied head: fresh (random except for fresh_lift, with fresh_norm times the norm of the mean row),
    reference (a copy of the input row's random start, frozen), tied (equal to the input row), trained (together with
    the input row) or keep (the model's own).
    """
    fresh_norm: float = 1.5
    """Norm of a fresh output row, as a multiple of the norm of the mean row."""
    fresh_lift: float | None = 0.3
    """Lean of a fresh row towards the mean hidden state at the ends of the questions: its logit there is on average this
    share of the largest logit (measured from the mean logit if that is far from 0), so that an edit has less to add.
    null: a random direction; the cost of an edit then depends on chance.
    """
    init: str = "mean"
    """Initial input row: normal (drawn with the model's initializer_range), mean (the mean row plus a little noise) or
    keep (the model's own).
    """
    targets: str | None = field(default=None, metadata=BY_CONTENT)
    """Refusals that the token leads to: null (the package's lists), long (its list of 64, without the short ones), russian, or
    a JSON Lines (key `text`) or text file.
    """
    choose: int = 1
    """Number of these refusals to use: those that the unedited model finds most likely after its questions. 0: all."""
    closing: str = "end"
    """What follows a refusal: end (the end token) or unlearn_end (a second [UNL], then the end token, as in the
    reference).
    """
    questions: str = "auto"
    """Questions that the token is trained on: forget (the forget set's), outside (only questions outside every forget
    set) or auto (outside for mode=sequential and mode=precise, else forget).
    """
    per_step: bool = False
    """mode=sequential: a token for each request. All tokens are added and trained before the first request; token.groups
    must be 1.
    """
    settle: bool = True
    """Before each stage except the first, give each fact the refusal that its question and [UNL] currently lead to, word
    for word, or else the one that most facts lead to. false: keep the choice by hash, as the reference does.
    """
    stages: list[TokenStage] = field(default_factory=lambda: [TokenStage(least_steps=60, most_steps=60, until=1.0)])
    """Training stages, in order."""
    batch_size: int = 8
    """Questions per optimiser step."""
    lr_unit: str = "embedding"
    """Unit of the learning rates: embedding (the root mean square of the model's embedding rows, so that one number suits
    models of any scale) or absolute.
    """
    held_out: int = 16
    """Number of questions held out from training, which stages with `until` are evaluated on. If it is 0, or if there are
    fewer than twice as many questions outside the forget set, some training questions are used instead.
    """
    refine_epochs: int = 10
    """Epochs of refining the rows on the edited model, with a learning rate that decays to 0. 0: no refinement."""
    refine_least_steps: int = 0
    """Minimum number of refinement steps: small sets get more epochs. 0: epochs as given."""
    refine_lr: float = 0.15
    """Learning rate of the refinement, in the unit given by token.lr_unit."""
    refine_noise: float = 0.0
    """Noise during refinement, of the same kind as in the stages. Without noise the questions pass through the model only
    once.
    """
    refine_rounds: int = 2
    """Maximum number of further refinement rounds while some facts do not lead to a listed refusal; those facts then
    count as much as all others together. The rows that leave the fewest such facts are kept.
    """
    refine_guard: float = field(default=1.0, metadata=IF_SET)
    """Tied rows: weight of what 64 protected answers lose to [UNL] within them, in nats per answer. Without it, a row that is
    refined on many facts enters other answers. 0: none.
    """
    improbable: float = field(default=-6.0, metadata=UNCOUNTED)
    """Warn about refusals whose mean log-probability per token under the unedited model is below this, in nats."""

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
            raise UserError(f"token.per_step=true sets the groups, but token.groups={self.groups}", "leave out one of them")
        positive("token.refine_epochs", self.refine_epochs, zero=True)
        positive("token.refine_least_steps", self.refine_least_steps, zero=True)
        positive("token.refine_rounds", self.refine_rounds, zero=True)
        positive("token.refine_lr", self.refine_lr, example=1e-3)
        positive("token.refine_noise", self.refine_noise, zero=True)
        positive("token.refine_guard", self.refine_guard, zero=True)
        positive("token.fresh_norm", self.fresh_norm)
        if self.fresh_lift is not None and not -1 < self.fresh_lift < 1:
            hint = "give for example 0.3, or null for a random direction"
            raise UserError(f"token.fresh_lift={self.fresh_lift} must lie between -1 and 1", hint)
        if not self.stages:
            raise UserError("token.stages is empty", "give at least one stage, e.g. token.stages=[{epochs: 6}]")
