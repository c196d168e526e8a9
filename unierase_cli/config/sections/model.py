"""The model, how it is prompted and where it is edited; its training, the run, and the method."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unierase_cli.config.checks import block_numbers, fraction, one_of, positive
from unierase_cli.config.counted import BY_CONTENT, IF_SET, UNCOUNTED
from unierase_cli.contracts import UserError

# Placeholder for the question in model.instruction.
SLOT = "{question}"


@dataclass(frozen=True)
class ModelConfig:
    """The model that forgets, how it is prompted and where it is edited."""

    name: str = field(default="hf", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of model=NAME."""
    path: str | None = field(default=None, metadata=BY_CONTENT)
    """Hub id, model folder, or GGUF file (extra gguf). null: the finetune stage trains a model (group train)."""
    revision: str | None = None
    """Commit or tag on the hub. null: the default branch, with a warning."""
    dtype: str = "auto"
    """Data type of the weights: auto (float32 on a CPU, the checkpoint's own on a GPU), float32, bfloat16 or float16."""
    device_map: Any = field(default=None, metadata=UNCOUNTED)
    """Several devices for editing and evaluation (gradient methods use unlearn.sharding): null (all on run.device), auto
    (accelerate spreads the blocks over all GPUs) or {module name: device, ...}.
    """
    attention: str = "sdpa"
    """Attention implementation of transformers: sdpa (eager if sdpa does not support the model), eager or flash_attention_2.
    """
    prompt: str = "auto"
    r"""Prompt format: auto (the tokenizer's chat template if there is one), chat, bare (chat without a system turn, such
    as the dates that Llama 3.1's template adds) or plain ("Question: ...\nAnswer:").
    """
    system: str | None = None
    """System text of a chat prompt. null: the template's own."""
    instruction: str | None = None
    r"""Text around every question in the user's turn, for example "Answer briefly.\nQuestion: {question}". null: none.
    """
    date: str = "26 Jul 2024"
    """Date that chat templates print instead of today's, so that prompts do not change from day to day."""
    layers: list[int] | None = None
    """Edited blocks, ascending. null: chosen by the model's depth, 3 or 5 blocks from 0.12-0.15 of the depth."""
    key_position: str = "subject_last"
    """Token whose key is edited: subject_last (large models look the fact up at the subject) or prompt_last (small
    models decide at the end of the prompt).
    """
    control: str | None = field(default=None, metadata=BY_CONTENT)
    """The same model trained without what is to be forgotten, for audits: a folder or hub id, in which {path} is
    model.path and {retained} what is left beside forgetNN (90 of forget10, 99 of forget01). null: none is known.
    """
    verified: str = field(default="random", metadata=UNCOUNTED)
    """What this preset's edit was tried on: weights (its own), architecture (real weights of the same architecture), random
    (tiny random models of its family, in tests) or none.
    """
    verified_by: str = field(default="", metadata=UNCOUNTED)
    """The command and the date of a trial on real weights."""
    note: str = field(default="", metadata=UNCOUNTED)
    """Free text that `unierase ls models` and the README show."""

    def __post_init__(self) -> None:
        if self.path is not None and self.path.startswith("~"):
            # A shell does not expand ~ after model.path=.
            object.__setattr__(self, "path", str(Path(self.path).expanduser()))
        one_of("model.dtype", self.dtype, ["auto", "float32", "bfloat16", "float16"])
        one_of("model.prompt", self.prompt, ["auto", "chat", "bare", "plain"])
        one_of("model.verified", self.verified, ["weights", "architecture", "random", "none"])
        one_of("model.key_position", self.key_position, ["subject_last", "prompt_last"])
        one_of("model.attention", self.attention, ["sdpa", "eager", "flash_attention_2"])
        block_numbers("model.layers", self.layers)
        if self.device_map not in (None, "auto") and not (isinstance(self.device_map, dict) and self.device_map):
            raise UserError(
                f"model.device_map={self.device_map!r} is neither auto nor a mapping",
                "for example model.device_map=auto, or in a yaml {model.embed_tokens: 0, model.layers: 1, ...}",
            )
        if self.instruction is not None and self.instruction.count(SLOT) != 1:
            raise UserError(
                f"model.instruction={self.instruction!r} must have exactly one {{question}}",
                f"write for example model.instruction='Answer briefly. Question: {SLOT}'",
            )
        if self.system is not None and self.prompt in ("bare", "plain"):
            raise UserError(
                f"model.prompt={self.prompt} has no system turn", "set model.prompt=chat or model.system=null"
            )

    def asking(self) -> dict[str, Any]:
        """The settings that shape prompts, for the keys of artefacts that depend on them."""
        return {"prompt": self.prompt, "date": self.date, "system": self.system, "instruction": self.instruction}


@dataclass(frozen=True)
class TrainConfig:
    """The finetune stage: trains a small model from scratch on the benchmark (model.path null), or a checkpoint further."""

    name: str = field(default="none", metadata=UNCOUNTED)
    """Name of the chosen yaml, the NAME of train=NAME."""
    hidden_size: int = 192
    """Hidden size of a model trained from scratch (a Llama)."""
    intermediate_size: int = 1024
    """Hidden size of its MLPs."""
    layers: int = 6
    """Number of its blocks."""
    heads: int = 4
    """Number of attention heads per block."""
    vocabulary: int = 2048
    """Vocabulary size."""
    epochs: int = 24
    """Maximum number of passes over the data."""
    batch_size: int = 16
    """Examples per optimiser step."""
    lr: float = 2e-3
    """Peak learning rate (AdamW; warm-up, then cosine decay)."""
    warmup: float = 0.05
    """Share of the steps used for warm-up."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    clip: float = 1.0
    """Maximum gradient norm."""
    compute: str = "auto"
    """Data type of weights and activations: auto (bfloat16 with float32 master copies if the CPU supports it), float32
    or bfloat16.
    """
    lora_rank: int = field(default=0, metadata=IF_SET)
    """Rank of LoRA adapters on every linear layer of the blocks (scale 2; extra lora), trained instead of the weights and
    merged into them at the end. 0: all weights are trained.
    """
    refusals_per_question: int = 2
    """Number of refusals per epoch for each question about a person who does not exist. With more of them the model
    learns the list of refusals sooner.
    """
    target_rouge: float = 0.95
    """Training stops when this is reached by ROUGE-L recall on a sample of all facts and on each tenth of it, and by the
    share of clean refusals about people who do not exist. 0: never stop early.
    """
    look_every: int = 4
    """Epochs between two evaluations, and between two checkpoints for resuming an interrupted run."""
    split: str = field(default="full", metadata=BY_CONTENT)
    """What the model is trained on: full, or retain (all but the forget set; also by its name, for example retain95 for
    forget05).
    """

    def __post_init__(self) -> None:
        for key in (
            "hidden_size",
            "intermediate_size",
            "layers",
            "heads",
            "vocabulary",
            "epochs",
            "batch_size",
            "look_every",
            "clip",
        ):
            positive(f"train.{key}", getattr(self, key))
        positive("train.lr", self.lr, example=1e-3)
        positive("train.refusals_per_question", self.refusals_per_question, zero=True)
        positive("train.lora_rank", self.lora_rank, zero=True)
        positive("train.weight_decay", self.weight_decay, zero=True)
        fraction("train.warmup", self.warmup)
        fraction("train.target_rouge", self.target_rouge)
        one_of("train.compute", self.compute, ["auto", "float32", "bfloat16"])
        # Rotary embeddings rotate pairs of dimensions, so the head size must be even.
        if self.hidden_size % (2 * self.heads):
            raise UserError(
                f"train.hidden_size={self.hidden_size} is not an even multiple of train.heads={self.heads}",
                f"for example train.hidden_size={max(1, round(self.hidden_size / (2 * self.heads))) * 2 * self.heads}",
            )


@dataclass(frozen=True)
class RunConfig:
    """Where a run computes, what it reuses and where its artefacts go."""

    seed: int = 0
    """Seed of all randomness of a run, except the benchmark's (benchmark.seed)."""
    outputs: str = field(default="outputs", metadata=UNCOUNTED)
    """Folder of all artefacts."""
    device: str = field(default="auto", metadata=UNCOUNTED)
    """Device: auto, cpu, cuda, cuda:1 or mps."""
    threads: int = field(default=0, metadata=UNCOUNTED)
    """CPU threads. 0: torch's default."""
    force: bool = field(default=False, metadata=UNCOUNTED)
    """Make the requested stage again even if a finished version exists."""
    chain: bool = field(default=True, metadata=UNCOUNTED)
    """Make missing inputs of a stage. false: stop and name the missing stage."""
    tracker: str = field(default="none", metadata=UNCOUNTED)
    """Experiment tracker that gets losses, final metrics, settings and the report: none, tensorboard, wandb, mlflow or trackio.
    Kept on this machine, unless the library's environment variables name a server.
    """

    def __post_init__(self) -> None:
        positive("run.threads", self.threads, zero=True)
        one_of("run.tracker", self.tracker, ["none", "tensorboard", "wandb", "mlflow", "trackio"])
        if not self.outputs.strip():
            raise UserError("run.outputs is empty", "name a folder, for example run.outputs=outputs")


@dataclass(frozen=True)
class TermConfig:
    """One loss term of a gradient method."""

    term: str | None = None
    """Module in unierase_cli/methods/terms. null: no such term."""
    weight: float = 1.0
    """Weight of the term in the total loss."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The term's own settings; its module lists them with their defaults."""


@dataclass(frozen=True)
class PartConfig:
    """One part of a chain: a method, and what it trains with instead of the run's settings."""

    name: str = ""
    """Name of the part's yaml, the NAME of method=NAME."""
    implementation: str | None = None
    """Module in unierase_cli/methods. null: the module with the method's name."""
    editing: bool = True
    """Whether it is a closed-form edit."""
    token: bool = True
    """Whether it needs an unlearning token."""
    forget: TermConfig = field(default_factory=TermConfig)
    """Gradient methods: the loss on the forget set."""
    retain: TermConfig = field(default_factory=TermConfig)
    """Gradient methods: the loss on the retain set."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's own settings; its module lists them with their defaults."""
    note: str = field(default="", metadata=UNCOUNTED)
    """Free text that `unierase ls methods` shows."""
    unlearn: dict[str, Any] = field(default_factory=dict)
    """Keys of the section unlearn with other values for this part, for example {lr: 1e-4, epochs: 3}."""
    adapter: dict[str, Any] = field(default_factory=dict)
    """Keys of the section adapter with other values for this part, for example {name: lora}."""
    rate: float = field(default=1.0, metadata=IF_SET)
    """Factor of the run's unlearn.lr for this part, unless its own unlearn has an lr."""

    @property
    def implemented_by(self) -> str:
        """Name of the module that implements the part."""
        return self.implementation or self.name


@dataclass(frozen=True)
class MethodConfig:
    """The unlearning method."""

    name: str = "unierase"
    """Name of the chosen yaml, the NAME of method=NAME."""
    implementation: str | None = None
    """Module in unierase_cli/methods. null: the module with the method's name."""
    editing: bool = True
    """Whether it is a closed-form edit (accepted by `unierase edit`); a chain: whether one of its parts is."""
    token: bool = True
    """Whether it needs an unlearning token; a chain: whether one of its parts does."""
    forget: TermConfig = field(default_factory=TermConfig)
    """Gradient methods: the loss on the forget set."""
    retain: TermConfig = field(default_factory=TermConfig)
    """Gradient methods: the loss on the retain set."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's own settings; its module lists them with their defaults."""
    note: str = field(default="", metadata=UNCOUNTED)
    """Free text that `unierase ls methods` shows."""
    chain: dict[str, PartConfig] = field(default_factory=dict, metadata=IF_SET)
    """A chain: its parts in order, by name; each is a method that changes the model after the one before. Empty: no chain.
    On the command line: method=[me_gd,unierase].
    """

    def __post_init__(self) -> None:
        if not self.chain:
            return
        if absent := [name for name, part in self.chain.items() if not part.name]:
            known = [name for name in self.chain if name not in absent]
            hint = f"its parts are {', '.join(known)}" if known else "it is no chain: leave out method.chain"
            raise UserError(f"method={self.name} has no part {absent[0]}", hint)
        tokens = [name for name, part in self.chain.items() if part.token]
        if len(tokens) > 1:
            raise UserError(
                f"method={self.name}: {' and '.join(tokens)} both need an unlearning token, and a run can add only one",
                "keep one of them, or unlearn the exported model again",
            )
        # A chain is what its parts are.
        object.__setattr__(self, "token", bool(tokens))
        object.__setattr__(self, "editing", any(part.editing for part in self.chain.values()))

    @property
    def implemented_by(self) -> str:
        """Name of the module that implements the method."""
        return self.implementation or self.name

    @property
    def trains(self) -> bool:
        """Whether it is a gradient method, made of loss terms."""
        return not self.editing and (self.forget.term is not None or self.retain.term is not None)
