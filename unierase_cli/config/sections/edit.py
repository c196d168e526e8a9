"""How the edit is computed (spec: unlearning edit, closed forms)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unierase_cli.config.checks import block_numbers, fraction, one_of, positive
from unierase_cli.config.counted import IF_SET, UNCOUNTED
from unierase_cli.contracts import UserError

# Kinds of ``edit.moments.corpus`` besides the path of a file.
ANSWERS, AUTO, HUB = "answers", "auto", "hub:"
# The value of ``edit.layers`` for the blocks that stage trace measured.
TRACED = "traced"


@dataclass(frozen=True)
class ValueConfig:
    """The optimisation of z, the value that makes the target the first answer token."""

    steps: int = 40
    """Maximum number of optimisation steps."""
    lr: float = 0.1
    """Learning rate (Adam); see edit.values.lr_kind for its unit."""
    lr_kind: str = "relative"
    """Unit of lr: absolute (as in the reference) or relative (lr is a fraction of clamp * ||h0|| per step, so that it
    fits any model's scale).
    """
    weight_decay: float = 0.5
    """Weight of ||delta|| / ||h0||^2 in the loss."""
    clamp: float = 0.5
    """Limit of the change: ||delta|| never exceeds clamp * ||h0||."""
    kl_factor: float = 0.0625
    """Weight of the drift on "{subject} is a": the KL divergence of the current from the initial prediction."""
    stop_loss: float = 0.01
    """The optimisation for a fact stops when its loss is below this."""
    stop_kind: str = "target"
    """The loss that stop_loss is compared with: total (as in the reference) or target (only the target's mean negative
    log-probability, which gives the smallest sufficient z).
    """
    runner_up: float = 1.0
    """Weight of the loss that makes the first tokens of refusals likely among all tokens except the target."""
    batch_size: int = 0
    """Number of facts optimised together. 0: chosen by the size of their logits, on a CPU by the number of their tokens."""

    def __post_init__(self) -> None:
        positive("edit.values.steps", self.steps)
        positive("edit.values.lr", self.lr, example=0.1)
        positive("edit.values.clamp", self.clamp)
        positive("edit.values.runner_up", self.runner_up, zero=True)
        positive("edit.values.weight_decay", self.weight_decay, zero=True)
        positive("edit.values.kl_factor", self.kl_factor, zero=True)
        positive("edit.values.stop_loss", self.stop_loss, zero=True)
        positive("edit.values.batch_size", self.batch_size, zero=True)
        one_of("edit.values.lr_kind", self.lr_kind, ["absolute", "relative"])
        one_of("edit.values.stop_kind", self.stop_kind, ["total", "target"])


@dataclass(frozen=True)
class MomentsConfig:
    """Second moments of the down projections' inputs, which the edit must preserve."""

    corpus: str = "answers"
    """Texts to read: answers (the protected questions in the model's own prompt, each with the answer that the model
    gives), auto (the benchmark's protected questions and answers as plain text), the path of JSON Lines with the key
    `text`, or hub:DATASET/CONFIG/SPLIT/COLUMN.
    """
    texts: str | None = field(default=None, metadata=IF_SET)
    """General texts to read besides the corpus: JSON Lines with the key `text`, or hub:DATASET/CONFIG/SPLIT/COLUMN."""
    texts_weight: float = field(default=1.0, metadata=IF_SET)
    """Weight of the moment of the tokens of these texts."""
    samples: int = 1000
    """Maximum number of texts to read, in seeded order. 0: all."""
    max_tokens: int = 512
    """Maximum number of tokens to read per text; prompts and answers are read whole."""
    answer_tokens: int = 48
    """Maximum number of tokens of an answer for corpus=answers."""
    corpus_weight: float = 1.0
    """Weight of the moment of corpus tokens."""
    prompt_end_weight: float = 0.0
    """Additional weight of the moment of the last prompt tokens of protected questions, for a corpus of plain text."""
    batch_tokens: int = field(default=8192, metadata=UNCOUNTED)
    """Maximum number of tokens per forward pass; on a CPU at most 1,024, since larger passes are slower."""

    def __post_init__(self) -> None:
        positive("edit.moments.corpus_weight", self.corpus_weight, zero=True)
        positive("edit.moments.prompt_end_weight", self.prompt_end_weight, zero=True)
        positive("edit.moments.texts_weight", self.texts_weight)
        positive("edit.moments.max_tokens", self.max_tokens)
        positive("edit.moments.answer_tokens", self.answer_tokens)
        positive("edit.moments.batch_tokens", self.batch_tokens)
        positive("edit.moments.samples", self.samples, zero=True)


@dataclass(frozen=True)
class TemplateConfig:
    """Context templates: the bare prompt (half of the weight) and prefixes sampled from the model."""

    starts: list[str] = field(default_factory=list)
    """First words of the sampled prefixes. An empty list uses only the bare prompt."""
    length: int = 10
    """Tokens per sampled prefix, including the first word."""
    top_k: int = 5
    """Each token is sampled from this many most likely tokens."""
    fixed: list[str] = field(default_factory=list)
    """Prefixes to use instead of sampled ones. Each is placed before the prompt."""

    def __post_init__(self) -> None:
        positive("edit.templates.length", self.length)
        positive("edit.templates.top_k", self.top_k)


@dataclass(frozen=True)
class EditConfig:
    """How a closed-form edit is computed."""

    name: str = field(default="default", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of edit=NAME."""
    layers: Any = None
    """Blocks whose down projection is edited: null (model.layers), a list, or traced (the window of MLPs with the largest
    effect at the edited token, above block 0; `unierase trace` measures it on the facts to forget).
    """
    key_position: str | None = None
    """Token whose key is edited: subject_last or prompt_last. null: model.key_position."""
    target: str = "token"
    """Target of the edit: token ([UNL] as the first answer token), refusal (a refusal without a token: the ablation) or
    text (edit.text).
    """
    text: str | None = None
    """Target text for edit.target=text. null: the method's usual target, a refusal."""
    values: ValueConfig = field(default_factory=ValueConfig)
    moments: MomentsConfig = field(default_factory=MomentsConfig)
    templates: TemplateConfig = field(default_factory=TemplateConfig)
    preserve: str = "ridge"
    """How protected directions are preserved: null_space (hard: they are projected out) or ridge (soft: changes along
    them cost in proportion to their moment).
    """
    threshold: float = 0.02
    """null_space: directions whose eigenvalue is below this threshold are editable."""
    threshold_kind: str = "relative_max"
    """Unit of threshold: absolute, relative_max (share of the largest eigenvalue) or trace_share (the editable
    directions hold this share of the trace).
    """
    alpha: float = 10.0
    """ridge: weight of the moment. A direction whose moment is lambda_ / alpha times the mean eigenvalue is half
    protected.
    """
    alpha_kind: str = "relative"
    """Unit of alpha: relative (the moment is divided by its mean eigenvalue) or absolute (MEMIT's weight of the
    covariance).
    """
    keep_first: float | None = None
    """ridge: raise alpha, three times at a step, until this share of 32 held-out protected questions keeps its first answer
    token; what comes of each alpha is recorded in steps.jsonl. null: alpha as given.
    """
    lambda_: float = 0.2
    """Ridge on the solution: larger values make smaller weight changes."""
    lambda_kind: str = "relative"
    """Unit of lambda_: absolute or relative (share of the mean of k'Bk over the edited keys)."""
    one_by_one: bool = False
    """Solve and apply one fact at a time, as the reference's script does."""
    solve_dtype: str = "float64"
    """Data type of Gram matrices and solves: float64 or float32."""

    def __post_init__(self) -> None:
        if self.layers not in (None, TRACED):
            if not isinstance(self.layers, list) or not all(type(layer) is int for layer in self.layers):
                what = f"edit.layers={self.layers} is neither a list of blocks nor {TRACED}"
                raise UserError(what, "for example edit.layers=[4,5]")
            block_numbers("edit.layers", self.layers)
        one_of("edit.target", self.target, ["token", "refusal", "text"])
        one_of("edit.preserve", self.preserve, ["null_space", "ridge"])
        one_of("edit.threshold_kind", self.threshold_kind, ["absolute", "relative_max", "trace_share"])
        one_of("edit.alpha_kind", self.alpha_kind, ["relative", "absolute"])
        one_of("edit.lambda_kind", self.lambda_kind, ["absolute", "relative"])
        one_of("edit.solve_dtype", self.solve_dtype, ["float64", "float32"])
        if self.key_position is not None:
            one_of("edit.key_position", self.key_position, ["subject_last", "prompt_last"])
        if self.keep_first is not None:
            if not 0 < self.keep_first <= 1:
                what = f"edit.keep_first={self.keep_first} must be above 0 and at most 1"
                raise UserError(what, "for example edit.keep_first=0.95")
            if self.preserve != "ridge" or self.one_by_one or not self.alpha:
                what = "edit.keep_first chooses alpha, for all facts together"
                raise UserError(what, "set edit.preserve=ridge edit.one_by_one=false and an edit.alpha above 0")
        positive("edit.threshold", self.threshold)
        positive("edit.lambda_", self.lambda_)
        positive("edit.alpha", self.alpha, zero=True)
        if self.threshold_kind != "absolute":
            fraction("edit.threshold", self.threshold)
