"""How gradient methods train (group ``unlearn``), and which weights (group ``adapter``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unierase_cli.config.checks import block_numbers, complete, fraction, one_of, positive
from unierase_cli.config.counted import BY_CONTENT, IF_SET, UNCOUNTED
from unierase_cli.config.sections.mode import ModeConfig
from unierase_cli.contracts import UserError

# Optimiser -> its own settings with defaults. rho: bound of the preconditioned step.
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {"adamw": {}, "paged_adamw_8bit": {}, "sophia": {"rho": 0.04}}


@dataclass(frozen=True)
class UnlearnConfig:
    """How gradient methods train."""

    name: str = field(default="default", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of unlearn=NAME."""
    epochs: int = 5
    """Passes over the forget set. There are floor(epochs * forget examples / batch_size) steps, but at least one."""
    max_steps: int = 0
    """Maximum number of optimiser steps. 0: given by epochs."""
    batch_size: int = 8
    """Forget examples per optimiser step (each with its retain example), summed over all processes."""
    micro_batch: int = 0
    """Forget examples per forward and backward pass; gradients are accumulated up to batch_size. 0: all of a process's
    examples at once.
    """
    lr: float = 1e-5
    """Peak learning rate."""
    schedule: str = "linear"
    """Learning rate after the warm-up: linear (decays to 0), cosine (decays to a twentieth) or constant."""
    warmup: float = 0.1
    """Share of the steps used for warm-up."""
    weight_decay: float = 0.01
    """Weight decay of the optimiser."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """The two decay rates of the optimiser's moments."""
    clip: float = 1.0
    """Maximum gradient norm. 0: no clipping."""
    optimizer: str = "adamw"
    """Optimiser: adamw, paged_adamw_8bit (bitsandbytes, NVIDIA GPUs) or sophia (SOUL's second-order optimiser)."""
    optimizer_settings: dict[str, Any] = field(default_factory=dict)
    """The optimiser's own settings: sophia has rho (0.04), the bound of its preconditioned step."""
    compute: str = "auto"
    """Data type of weights and activations: auto, float32 or bfloat16."""
    masters: bool = True
    """Keep float32 master copies of bfloat16 weights. false: update the bfloat16 weights directly."""
    modules: list[str] = field(default_factory=list, metadata=IF_SET)
    """Name endings of the matrices that are trained, for example [down_proj]. Empty: every weight. Not for adapters."""
    layers: list[int] | None = field(default=None, metadata=IF_SET)
    """Blocks that are trained. null: all. Not for adapters."""
    ends: bool = field(default=True, metadata=IF_SET)
    """Also train the embedding and the output matrix, if all weights are trained. A chain with an unlearning token does not:
    the token adds rows to both.
    """
    sharpness: float = field(default=0.0, metadata=IF_SET)
    """SAM: the forget loss's gradient is taken at weights moved this far up the loss (a norm over all of them), so that the
    result resists relearning. 0: off. Published: 0.01. Refused by scrub, repselect and release.
    """
    adversary_rank: int = field(default=0, metadata=IF_SET)
    """Adversarial LoRA: the forget loss is taken while adapters of this rank, trained before to recall the facts and then frozen,
    are active, so that the result resists relearning. 0: off. Refused where sharpness is, and with adapter=lora.
    """
    adversary_lr: float = field(default=0.01, metadata=IF_SET)
    """Learning rate of these adapters (plain gradient steps, one per micro-batch). Published: 0.01 (RepSelect)."""
    adversary_passes: int = field(default=1, metadata=IF_SET)
    """Passes of these adapters over the forget set."""
    rehearsal: float = field(default=0.0, metadata=IF_SET)
    """In a sequence: facts of earlier requests that each batch of a later request forgets again, per fact of its own and beside
    batch_size. They are drawn from all earlier requests, and the reference is the original model. 0: none. Refused by scrub,
    repselect, release and methods without a forget term, and in a sequence by altpo and with sharding=fsdp.
    """
    scale: float = field(default=1.0, metadata=IF_SET)
    """Share of the learned change that is kept: below 1, the result lies between the weights before and after (WiSE-FT, arXiv
    2109.01903); task_vector and lora_negation multiply it by their own scale. Refused by scrub, repselect and release.
    """
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    answers: str = field(default="benchmark", metadata=IF_SET)
    """The answers to forget and to retain: benchmark (the data's) or model (what the unedited model says to each question).
    A pretrained model answers in its own sentences; trained on short answers, it loses these, and facts with them.
    """
    answer_tokens: int = field(default=48, metadata=IF_SET)
    """Maximum number of tokens of an answer for answers=model."""
    max_length: int = 0
    """Maximum number of tokens per sequence; longer ones are truncated. 0: no limit."""
    layout: str = "own"
    """Batch layout: own (padded to the longest sequence), closer_look (padded to max_length with masked end tokens) or
    open_unlearning (the end token is masked).
    """
    forget_labels: str = "answer"
    """Labels of forget examples: answer, or all (prompt and padding too, as with closer-look's mask=false)."""
    token_weights: str | None = field(default=None, metadata=BY_CONTENT)
    """The weight of each token of a fact's own answer in every loss: attribution (see the section attribute), or a file, JSON
    Lines of {"fact": id, "weights": [one per answer token, including the end token]}. Facts that are not listed have weight 1,
    as do all facts with forget_labels=all.
    """
    pairing: str = "seeded"
    """How a forget example gets its retain partner and refusal: seeded (new ones in each epoch) or closer_look (fixed by
    the example's index).
    """
    weighting: str = "tokens"
    """What the loss averages: tokens (all tokens of a step) or micro_batches (the means of its micro-batches, as the
    reference trainers do).
    """
    reference: str = "auto"
    """The reference model, before unlearning (for KL, UNDIAL, RMU): auto (the model with its adapter disabled, else
    stored), stored (its outputs) or second_model.
    """
    reference_gib: float = field(default=2.0, metadata=UNCOUNTED)
    """Maximum memory for stored outputs of the reference model, in GiB."""
    sharding: str = "none"
    """Several processes (accelerate launch, torchrun): none (each holds the whole model) or fsdp (the blocks are sharded
    over them).
    """
    evaluate_every: int = field(default=0, metadata=UNCOUNTED)
    """Steps between two quick evaluations. 0: none."""
    checkpoint_every: int = field(default=0, metadata=UNCOUNTED)
    """Steps between two checkpoints (12 bytes per trained weight each; two are kept). 0: ten per run, -1: none."""
    stop_retain_loss: float = 0.0
    """Training stops when the mean retain loss of a step exceeds this, in nats per token. 0: log(vocabulary size), the
    loss of a uniform guess.
    """

    def __post_init__(self) -> None:
        positive("unlearn.lr", self.lr, example=1e-5)
        for key in ("epochs", "batch_size"):
            positive(f"unlearn.{key}", getattr(self, key))
        for key in (
            "max_steps", "micro_batch", "weight_decay", "clip", "max_length",
            "evaluate_every", "stop_retain_loss", "reference_gib",
        ):  # fmt: skip
            positive(f"unlearn.{key}", getattr(self, key), zero=True)
        if self.checkpoint_every < -1:
            raise UserError(f"unlearn.checkpoint_every={self.checkpoint_every} is not a step count", "0 is ten per run, -1 none")
        block_numbers("unlearn.layers", self.layers)
        for key in ("sharpness", "adversary_rank", "rehearsal"):
            positive(f"unlearn.{key}", getattr(self, key), zero=True)
        for key in ("adversary_lr", "adversary_passes", "scale"):
            positive(f"unlearn.{key}", getattr(self, key))
        fraction("unlearn.warmup", self.warmup)
        one_of("unlearn.schedule", self.schedule, ["linear", "cosine", "constant"])
        one_of("unlearn.optimizer", self.optimizer, list(OPTIMIZERS))
        for key, value in self.all_optimizer_settings().items():
            positive(f"unlearn.optimizer_settings.{key}", value)
        one_of("unlearn.compute", self.compute, ["auto", "float32", "bfloat16"])
        one_of("unlearn.sharding", self.sharding, ["none", "fsdp"])
        one_of("unlearn.answers", self.answers, ["benchmark", "model"])
        positive("unlearn.answer_tokens", self.answer_tokens)
        if self.answers == "model" and self.token_weights is not None:
            raise UserError(
                "unlearn.token_weights weighs the tokens of the benchmark's answers, which unlearn.answers=model replaces",
                "leave one of them out",
            )
        one_of("unlearn.layout", self.layout, ["own", "closer_look", "open_unlearning"])
        one_of("unlearn.forget_labels", self.forget_labels, ["answer", "all"])
        one_of("unlearn.pairing", self.pairing, ["seeded", "closer_look"])
        one_of("unlearn.weighting", self.weighting, ["tokens", "micro_batches"])
        one_of("unlearn.reference", self.reference, ["auto", "stored", "second_model"])
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"unlearn.betas={self.betas} must be two numbers from 0 to 1", "type unlearn.betas=[0.9,0.999]")
        if self.layout == "closer_look" and not self.max_length:
            raise UserError("unlearn.layout=closer_look pads to unlearn.max_length, which is 0", "add unlearn.max_length=500")

    def all_optimizer_settings(self) -> dict[str, Any]:
        """The optimiser's own settings including defaults; raises UserError for an unknown setting."""
        name = f"unlearn.optimizer_settings of {self.optimizer}"
        return complete(OPTIMIZERS[self.optimizer], self.optimizer_settings, name)

    def largest_batch(self, rows: int) -> int:
        """The largest batch for a step with ``rows`` forget rows; in closer_look's runner a batch may cross an epoch's end."""
        return rows * (self.epochs if self.pairing == "closer_look" else 1)

    def lowered(self, rows: int) -> UnlearnConfig:
        """The same settings with a batch size that fits a step with ``rows`` forget rows."""
        return replace(self, batch_size=min(self.batch_size, self.largest_batch(rows)))

    def rehearsed(self, rows: int, earlier: int) -> int:
        """How many of the ``earlier`` facts join ``rows`` facts of a later request in a batch; at least one, if any do."""
        return min(max(1, round(self.rehearsal * rows)), earlier) if self.rehearsal else 0

    def check_batch(self, rows: int) -> None:
        """Refuse a batch size that is too large for a step with ``rows`` forget rows."""
        if self.batch_size > self.largest_batch(rows):
            raise UserError(
                f"unlearn.batch_size={self.batch_size} is larger than the forget set ({rows} row{'s' * (rows != 1)})",
                f"choose unlearn.batch_size={max(1, rows // 5)} for example",
            )


@dataclass(frozen=True)
class AdapterConfig:
    """Which weights gradient methods train."""

    name: str = "none"
    """What is trained: none (all weights) or lora (low-rank adapters by peft, merged into the patch at the end)."""
    r: int = 8
    """Rank of the adapters."""
    alpha: int = 32
    """Scale of the adapters: their product is multiplied by alpha / r."""
    dropout: float = 0.05
    """Dropout on the adapters' inputs."""
    targets: list[str] = field(default_factory=list)
    """Name endings of the modules that get an adapter. Empty: every linear layer of the blocks."""

    def __post_init__(self) -> None:
        one_of("adapter.name", self.name, ["none", "lora"])
        positive("adapter.r", self.r)
        positive("adapter.alpha", self.alpha)
        if not 0 <= self.dropout < 1:
            raise UserError(f"adapter.dropout={self.dropout} must be from 0 to below 1", "for example adapter.dropout=0.05")


def original_reference(mode: ModeConfig, unlearn: UnlearnConfig) -> bool:
    """Whether later requests compare with the model before all requests, and not with what the previous request left."""
    return mode.reference == "original" or unlearn.rehearsal > 0


def reference_from(unlearn: UnlearnConfig, adapter: AdapterConfig, *, original: bool = False) -> str:
    """Where a loss gets the reference model: ``adapter`` (disabled), ``second_model``, or ``stored`` outputs.

    ``original``: a later step that compares with the model before all steps, which the model with its adapter disabled
    is not.
    """
    if adapter.name != "none" and unlearn.reference != "stored" and not original:
        return "adapter"
    return "second_model" if unlearn.reference == "second_model" else "stored"
