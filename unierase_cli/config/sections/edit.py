"""How the edit is computed (spec: unlearning edit, closed forms)."""

from __future__ import annotations

from dataclasses import dataclass, field

from unierase_cli.config.checks import block_numbers, fraction, one_of, positive
from unierase_cli.config.counted import UNCOUNTED


@dataclass(frozen=True)
class ValueConfig:
    """The search for z, the value that makes the target the first answer token."""

    steps: int = 40
    lr: float = 0.1
    # absolute (the reference) | relative (lr is a fraction of clamp * ||h0|| per step, whatever the model's scale)
    lr_kind: str = "relative"
    # Weight of ||delta|| / ||h0||^2.
    weight_decay: float = 0.5
    # ||delta|| never exceeds clamp * ||h0||.
    clamp: float = 1.0
    # Weight of the drift of "{subject} is a" (KL of current to initial).
    kl_factor: float = 0.0625
    # A fact stops once its loss is below this.
    stop_loss: float = 0.01
    # Which loss: total (the reference) | target (the target's mean negative log-probability alone: the smallest z that suffices)
    stop_kind: str = "target"
    # Weight of refusals as the runner-up: among tokens other than the target, first tokens of refusals likely.
    runner_up: float = 1.0
    # Facts optimised together; 0 chooses by memory.
    batch_size: int = 0

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
    """Second moments of the down projections' inputs, what the edit must leave alone."""

    # auto (benchmark's own protected texts) | path of JSON Lines with `text` | hub:<dataset>/<config>/<split>/<column>
    corpus: str = "auto"
    # Texts read at most, in seeded order; 0 reads all.
    samples: int = 1000
    # Tokens of a text read at most.
    max_tokens: int = 512
    # Weight of the corpus tokens' moment, and of the moment of the last prompt tokens of protected questions.
    corpus_weight: float = 1.0
    prompt_end_weight: float = 1000.0
    batch_tokens: int = field(default=8192, metadata=UNCOUNTED)

    def __post_init__(self) -> None:
        positive("edit.moments.corpus_weight", self.corpus_weight, zero=True)
        positive("edit.moments.prompt_end_weight", self.prompt_end_weight, zero=True)
        positive("edit.moments.max_tokens", self.max_tokens)
        positive("edit.moments.batch_tokens", self.batch_tokens)
        positive("edit.moments.samples", self.samples, zero=True)


@dataclass(frozen=True)
class TemplateConfig:
    """Context templates: the bare prompt (half the weight) and prefixes sampled from the model."""

    # Start words of sampled prefixes; an empty list edits the bare prompt alone.
    starts: list[str] = field(default_factory=list)
    length: int = 10
    top_k: int = 5
    # Fixed prefixes instead of sampled ones, each put in front of the prompt.
    fixed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        positive("edit.templates.length", self.length)
        positive("edit.templates.top_k", self.top_k)


@dataclass(frozen=True)
class EditConfig:
    name: str = field(default="default", metadata=UNCOUNTED)
    # Blocks whose down projection is edited; null takes model.layers.
    layers: list[int] | None = None
    # null takes model.key_position.
    key_position: str | None = None
    # token ([UNL] first) | refusal (straight to a refusal, no token: the ablation) | text (edit.text)
    target: str = "token"
    # Target text of target=text; null edits to the method's ordinary target, a refusal.
    text: str | None = None
    values: ValueConfig = field(default_factory=ValueConfig)
    moments: MomentsConfig = field(default_factory=MomentsConfig)
    templates: TemplateConfig = field(default_factory=TemplateConfig)
    # null_space (hard: protected directions are cut away) | ridge (soft: they cost, in proportion to their moment)
    preserve: str = "ridge"
    # null_space: directions with eigenvalue below the threshold are editable.
    threshold: float = 0.02
    # absolute | relative_max (share of the largest eigenvalue) | trace_share (editable directions hold this share of the trace)
    threshold_kind: str = "relative_max"
    # ridge: weight of the moment; a direction whose moment is lambda_ / alpha times the mean eigenvalue is half protected.
    alpha: float = 1.0
    # relative (the moment is counted in its mean eigenvalue) | absolute (MEMIT's weight of the covariance)
    alpha_kind: str = "relative"
    # Ridge on the solution: absolute | relative (share of the mean k'Bk over the edited keys)
    lambda_: float = 0.2
    lambda_kind: str = "relative"
    # Solve and apply one fact after another, as the reference's script does.
    one_by_one: bool = False
    # float64 | float32, of Gram matrices and solves
    solve_dtype: str = "float64"

    def __post_init__(self) -> None:
        block_numbers("edit.layers", self.layers)
        one_of("edit.target", self.target, ["token", "refusal", "text"])
        one_of("edit.preserve", self.preserve, ["null_space", "ridge"])
        one_of("edit.threshold_kind", self.threshold_kind, ["absolute", "relative_max", "trace_share"])
        one_of("edit.alpha_kind", self.alpha_kind, ["relative", "absolute"])
        one_of("edit.lambda_kind", self.lambda_kind, ["absolute", "relative"])
        one_of("edit.solve_dtype", self.solve_dtype, ["float64", "float32"])
        if self.key_position is not None:
            one_of("edit.key_position", self.key_position, ["subject_last", "prompt_last"])
        positive("edit.threshold", self.threshold)
        positive("edit.lambda_", self.lambda_)
        positive("edit.alpha", self.alpha, zero=True)
        if self.threshold_kind != "absolute":
            fraction("edit.threshold", self.threshold)
